"""A user's parse function, for the tests: `label,feasign,feasign` for slots 2 and 3."""


def parse(line: bytes) -> tuple[int, list[int], list[int]]:
    label, *values = (int(v) for v in line.split(b","))
    return label, list(range(2, 2 + len(values))), values
