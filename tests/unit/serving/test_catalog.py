"""Chains from donefiles, against a plain search."""

from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import ModelRef
from streamtrain.serving.catalog import age, chains, parse, unlinked

DAYS = ("20240101", "20240102")


@st.composite
def listings(draw: st.DrawFn) -> list[DoneLine]:
    """Lines as trainers leave them, and worse: any model may be over any other, lines may be missing."""
    lines: list[DoneLine] = []
    for number in range(draw(st.integers(0, 9))):
        below = draw(st.sampled_from([None, *lines])) if lines else None
        full = draw(st.booleans())
        base = None if below is None else below if below.kind == "full" else below.base
        if draw(st.integers(0, 9)) == 0 and lines:
            base = draw(st.sampled_from(lines))
        lines.append(
            DoneLine(
                day=draw(st.sampled_from(DAYS)),
                pass_id=draw(st.integers(0, 4)),
                digest=f"d{number}",
                kind="full" if full else "incremental",
                path=f"20240101/inference_model_{number}",
                base=None if full else ref(base),
                previous=None if full else ref(below),
                published=number,
            )
        )
    dropped = draw(st.sets(st.integers(0, 8), max_size=2))
    return [line for i, line in enumerate(lines) if i not in dropped]


def ref(model: DoneLine | ModelRef | None) -> ModelRef | None:
    return model.ref if isinstance(model, DoneLine) else model


def plain_chain(line: DoneLine, lines: list[DoneLine]) -> list[str] | None:
    """Down from a line to its base, or to nothing."""
    if line.kind == "full":
        return [line.digest]
    if line.previous is None:
        return [line.digest] if line.base is None else None
    below = next((x for x in lines if x.digest == line.previous.digest), None)
    if below is None:
        return None
    base = below.digest if below.kind == "full" else below.base.digest if below.base else None
    if (line.base.digest if line.base else None) != base:
        return None
    chain = plain_chain(below, lines)
    return [*chain, line.digest] if chain else None


@given(listings())
def test_chains_are_all_that_can_be_put_together_freshest_first(lines: list[DoneLine]) -> None:
    digests = [[line.digest for line in chain] for chain in chains(lines)]
    plain = {line.digest: plain_chain(line, lines) for line in lines}
    assert sorted(digests) == sorted(chain for chain in plain.values() if chain)
    ages = [age(chain[-1]) for chain in chains(lines)]
    assert ages == sorted(ages, reverse=True)
    assert {line.digest for line in unlinked(lines)} == {digest for digest, chain in plain.items() if not chain}


@given(listings(), st.binary(max_size=40))
def test_lines_come_back_and_others_are_named(lines: list[DoneLine], garbage: bytes) -> None:
    bad = b"{" + garbage.replace(b"\n", b"").replace(b"\r", b"")
    text = b"".join(line.encode() for line in lines) + b"\n"
    listing = parse({"patch_donefile.txt": text + bad + b"\n" + text})
    assert list(listing.lines) == lines
    assert listing.problems[0].startswith(f"patch_donefile.txt, line {len(lines) + 2} is skipped: ")
    assert len(listing.problems) == 1


def test_the_documents_line() -> None:
    text = (
        b'{"day":"20190720","pass_id":6,"kind":"incremental","path":"20190720/inference_model_6","digest":"ab",'
        b'"base":{"day":"20190720","pass_id":0,"digest":"00"},"previous":null,"keys":1032,"deleted":0,"rows":91234,'
        b'"event_time":"..","published":1700000000.0}'
    )
    line = parse({"p": text}).lines[0]
    assert (line.pass_id, line.path, line.base and line.base.digest) == (6, "20190720/inference_model_6", "00")
    assert [x.digest for x in unlinked([line])] == ["ab"]
