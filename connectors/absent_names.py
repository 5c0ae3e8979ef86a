"""Names that the config has and no line of a split: a misspelt one is absent from all of them. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence


class AbsentNames:
    """Told the names that each line has, between begin() and end() of a split.

    names: those of the config's that a line may lack without being rejected.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = tuple(dict.fromkeys(names))
        #: Those that no line has had so far.
        self.left: tuple[str, ...] = ()
        #: What is said of the newest split with lines; empty: each name was in one of them.
        self.sentence = ""
        self._reported: tuple[str, ...] = ()

    def begin(self) -> None:
        self.left = self._names

    def had(self, names: Container[str]) -> None:
        """names: all those of a line."""
        if self.left:
            self.left = tuple(name for name in self.left if name not in names)

    def keep(self, left: Container[str]) -> None:
        """left: those that other lines have not had, as their parser says."""
        self.left = tuple(name for name in self.left if name in left)

    def end(self, split: str, lines: int) -> bool:
        """lines: of the split, rejected ones too; without any, nothing is known of it. Whether there is something to
        report: names that were not absent from the split before."""
        if not lines:
            return False
        news = set(self.left) - set(self._reported)
        self._reported = self.left
        self.sentence = ""
        if self.left:
            shown = ", ".join(self.left[:20]) + (" .." if len(self.left) > 20 else "")
            self.sentence = f"none of the {lines:,} lines of split {split} has {shown}, which the config names"
        return bool(news)
