"""How far a text has come with the words that it must have.

The rules are those of Transformers 4.49's constraints. One word at a time is in progress: a word of several tokens is
begun where its first token comes while none is, and has to go on at once. A token that breaks it off is not tried as
the beginning of another, and tokens count for one word only, so that two equal words need two occurrences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

Ids = tuple[int, ...]
Word = tuple[Ids, ...]  # its forms, of which one must be there; none is the beginning of another


@dataclass(frozen=True)
class Progress:
    """pending: the words that are neither fulfilled nor in progress, in the order in which they are looked for.
    path: as much of the word in progress as is there. longest: the length of the longest form of any word.
    """

    pending: tuple[Word, ...]
    longest: int
    in_progress: Word | None = None
    path: Ids = ()
    fulfilled: int = 0

    @classmethod
    def before(cls, words: tuple[Word, ...]) -> Progress:
        """Before the first token."""
        return cls(words, max(map(_length, words)))

    @property
    def complete(self) -> bool:
        """Whether every word is there; what follows cannot undo it."""
        return self.in_progress is None and not self.pending

    def after(self, token: int) -> Progress:
        if self.in_progress is not None:
            if token in _next_tokens(self.in_progress, self.path):
                return self._on_the_way(self.in_progress, (*self.path, token))
            return replace(self, pending=(*self.pending, self.in_progress), in_progress=None, path=())
        for place, word in enumerate(self.pending):
            if token in _next_tokens(word, ()):
                others = self.pending[:place] + self.pending[place + 1 :]
                return replace(self, pending=others)._on_the_way(word, (token,))
        return self

    def _on_the_way(self, word: Word, path: Ids) -> Progress:
        if path in word:
            return replace(self, in_progress=None, path=(), fulfilled=self.fulfilled + 1)
        return replace(self, in_progress=word, path=path)

    @property
    def bank(self) -> int:
        """How much is done: for every word fulfilled the longest word's length, and for one in progress that less
        what it lacks."""
        done = self.fulfilled * self.longest
        if self.in_progress is None:
            return done
        return done + self.longest - (_length(self.in_progress) - len(self.path))

    def forced(self) -> Iterator[tuple[int, int]]:
        """The tokens that bring a word forward, and the bank that each is ranked in.

        Transformers 4.49 follows the tokens that may come next in a word of several forms without going back in
        between: all but the first are tried where those before them have led, and those that leave the word in
        progress are ranked by how far all together have got.
        """
        if self.in_progress is None:
            tokens = [token for word in self.pending for token in _next_tokens(word, ())]
            yield from ((token, self.after(token).bank) for token in tokens)
            return
        tried = []
        path = self.path
        for token in _next_tokens(self.in_progress, self.path):
            tried.append((token, replace(self, path=path).after(token)))
            if token in _next_tokens(self.in_progress, path):
                path = (*path, token)
        for token, progress in tried:
            yield token, (progress if progress.in_progress is None else replace(progress, path=path)).bank


def _length(word: Word) -> int:
    return max(map(len, word))


def _next_tokens(word: Word, path: Ids) -> list[int]:
    """What may follow the beginning of a word, each once, in the order of the forms."""
    at = len(path)
    return list(dict.fromkeys(form[at] for form in word if len(form) > at and form[:at] == path))
