"""Chains from donefiles, against a plain search."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.serving.catalog import Entry, Ref, chains, parse, unlinked

DAYS = ("20240101", "20240102")


@st.composite
def listings(draw: st.DrawFn) -> list[Entry]:
    """Lines as trainers leave them, and worse: any model may be over any other, lines may be gone."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(0, 9))):
        below = draw(st.sampled_from([None, *entries])) if entries else None
        full = draw(st.booleans())
        base = None if below is None else below if below.kind == "full" else below.base
        if draw(st.integers(0, 9)) == 0 and entries:
            base = draw(st.sampled_from(entries))
        entries.append(
            Entry(
                day=draw(st.sampled_from(DAYS)),
                pass_id=draw(st.integers(0, 4)),
                digest=f"d{number}",
                kind="full" if full else "incremental",
                path=f"p{number}",
                base=None if full else ref(base),
                previous=None if full else ref(below),
                published=number,
            )
        )
    gone = draw(st.sets(st.integers(0, 8), max_size=2))
    return [e for i, e in enumerate(entries) if i not in gone]


def ref(entry: Ref | None) -> Ref | None:
    return Ref(day=entry.day, pass_id=entry.pass_id, digest=entry.digest) if entry else None


def plain_chain(entry: Entry, entries: list[Entry]) -> list[str] | None:
    """Down from an entry to its base, or to nothing."""
    if entry.kind == "full":
        return [entry.digest]
    if entry.previous is None:
        return [entry.digest] if entry.base is None else None
    below = next((e for e in entries if e.digest == entry.previous.digest), None)
    if below is None:
        return None
    base = below.digest if below.kind == "full" else below.base.digest if below.base else None
    if (entry.base.digest if entry.base else None) != base:
        return None
    chain = plain_chain(below, entries)
    return [*chain, entry.digest] if chain else None


@given(listings())
def test_chains_are_all_that_can_be_put_together_freshest_first(entries: list[Entry]) -> None:
    found = [[e.digest for e in chain] for chain in chains(entries)]
    plain = {e.digest: plain_chain(e, entries) for e in entries}
    assert sorted(found) == sorted(c for c in plain.values() if c)
    ages = [chain[-1].age for chain in chains(entries)]
    assert ages == sorted(ages, reverse=True)
    assert {e.digest for e in unlinked(entries)} == {d for d, c in plain.items() if not c}


@given(listings(), st.binary(max_size=40))
def test_lines_come_back_and_others_are_named(entries: list[Entry], garbage: bytes) -> None:
    bad = b"{" + garbage.replace(b"\n", b"").replace(b"\r", b"")
    text = b"".join(orjson.dumps(e.model_dump()) + b"\n" for e in entries) + b"\n"
    found = parse({"patch_donefile.txt": text + bad + b"\n" + text})
    assert list(found.entries) == entries
    assert len(found.problems) == 1 and "patch_donefile.txt, line" in found.problems[0]


def test_the_documents_line() -> None:
    line = (
        b'{"day":"20190720","pass_id":6,"kind":"incremental","path":"20190720/inference_model_6","digest":"ab",'
        b'"base":{"day":"20190720","pass_id":0,"digest":"00"},"previous":null,"keys":1032,"deleted":0,"rows":91234,'
        b'"event_time":"..","published":1700000000.0}'
    )
    entry = parse({"p": line}).entries[0]
    assert (entry.pass_id, entry.path, entry.base and entry.base.digest) == (6, "20190720/inference_model_6", "00")
    assert [e.digest for e in unlinked([entry])] == ["ab"]
