"""Training text: files of books, tales and short stories to documents, and documents to arrays of token ids.

Books are in the format of Project Gutenberg: lines wrapped at about 70 characters, chapter headings, transcriber's
notes. Files of tales and stories are documents separated by `<|endoftext|>`; a document can occur in several files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import PellucidError
from pellucid.tokenizer import GPT2Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256

# Typographic characters to the ASCII characters that most of the files use.
_PLAIN_SIGNS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "\u00a0": " "})

_HEADING = re.compile(
    r"(CHAPTER|BOOK|PART|VOLUME|STORY|LETTER|PREFACE|CONTENTS|INTRODUCTION|INDEX|APPENDIX|FOOTNOTES?|NOTES?"
    r"|ILLUSTRATIONS?|DEDICATION|THE END|FINIS|END OF)\b[\s\dIVXLC.:,-]*(\n|$|[.:] ?\S|[\dIVXLC]+\b|[A-Z ]+$)"
    r"|[IVXLC]+\.?$|[IVXLC]+\. |\d+\.?$|\d+\. [A-Z ]+"
)
_CHAPTER = re.compile(r"(Chapter|Book|Part|Letter) ([\dIVXLC]+|the (First|Last|Second|Third))\b")
_MARKS = re.compile(r"[\s*_=~.#-]*$")  # separators such as rows of asterisks
_TRANSCRIBERS = re.compile(r"\[(Illustration|Footnote|Note|Transcriber|Sidenote)|.*(Gutenberg|[Tt]ranscriber)")
_EMPHASIS = re.compile(r"_([^_\n]+)_")
_LOUD_OPENING = re.compile(r"([A-Z])([A-Z']+)(?=,? [a-zI])")

SHINGLE_WORDS = 8
HEADING_CHARACTERS = 120
SHORTEST_DOCUMENT = 200  # characters; shorter chapters are remains of headings
VERSE_LINE_CHARACTERS = 48  # a paragraph with shorter lines on average is verse


def plain_signs(text: str) -> str:
    """The text with straight quotes and ASCII dashes."""
    return text.translate(_PLAIN_SIGNS)


def is_heading(block: str) -> bool:
    """Whether a block between blank lines is a chapter heading."""
    block = block.strip()
    if len(block) > HEADING_CHARACTERS or block.count("\n") > 2:
        return False
    letters = [c for c in block if c.isalpha()]
    shouted = bool(letters) and all(c.isupper() for c in letters) and block[-1] not in "!?\"'"
    return shouted or bool(_HEADING.match(block)) or bool(_CHAPTER.match(block))


def unwrap_block(block: str) -> str:
    """Join the lines of a paragraph. Verse keeps its lines."""
    lines = [line.strip() for line in block.strip().split("\n")]
    if len(lines) > 2 and sum(map(len, lines[:-1])) / (len(lines) - 1) < VERSE_LINE_CHARACTERS:
        return "\n".join(lines)
    text = lines[0]
    for line in lines[1:]:
        text += line if text.endswith("-") else " " + line  # no space after a hyphen or dash
    return text


def _is_title(paragraph: str) -> bool:
    return len(paragraph) < HEADING_CHARACTERS // 2 and paragraph[-1] not in ".!?\"'-:,;"


def clean_paragraph(block: str) -> str:
    """A paragraph of a book as plain text: unwrapped, without emphasis marks and without a first word in capitals."""
    paragraph = _EMPHASIS.sub(r"\1", unwrap_block(block)).replace("_", "")
    loud = _LOUD_OPENING.match(paragraph)
    if loud:
        paragraph = loud[1] + loud[2].lower() + paragraph[loud.end() :]
    return paragraph if "\n" in paragraph else re.sub(r"[ \t]+", " ", paragraph)  # verse keeps its spacing


def unwrap_book(text: str) -> list[str]:
    """The chapters of a hard-wrapped book, each with its paragraphs on single lines, a blank line between them.

    Headings, separators, transcribers' notes and the front matter (title, author, dedication, motto) are removed.
    """
    chapters: list[list[str]] = [[]]
    for raw in re.split(r"\n[ \t]*(?:\n[ \t]*)+", plain_signs(text.replace("\f", "\n\n").replace("\x82", "e"))):
        block = raw.strip("\n")
        if not block.strip() or _MARKS.match(block) or _TRANSCRIBERS.match(block.strip()):
            continue
        if is_heading(block):
            chapters.append([])
            continue
        paragraph = clean_paragraph(block)
        if chapters[-1] or not (block.startswith(" ") or _is_title(paragraph)):
            chapters[-1].append(paragraph)
    documents = ["\n\n".join(chapter) for chapter in chapters]
    return [document for document in documents if len(document) >= SHORTEST_DOCUMENT]


def split_documents(text: str) -> list[str]:
    """The documents of a file with `<|endoftext|>` between them, stripped. A last document that ends in mid-sentence is
    dropped."""
    documents = ["\n".join(line.rstrip() for line in part.strip().split("\n")) for part in text.split(END_OF_TEXT)]
    if documents and documents[-1] and documents[-1][-1] not in ".!?\"'”’)":
        documents.pop()
    return [document for document in documents if document]


def without_title(tale: str) -> str:
    """A tale without its heading, if it has one."""
    first, _, rest = tale.partition("\n")
    return rest.strip() if rest and is_heading(first) else tale


def shingles(text: str) -> set[int]:
    """Hashes of all runs of `SHINGLE_WORDS` words, normalised to lower-case letters and digits."""
    words = re.findall(r"[a-z0-9]+", plain_signs(text).lower().replace("'", ""))
    return {hash(tuple(words[i : i + SHINGLE_WORDS])) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def without_repeats(
    documents: Iterable[str], seen: set[int], held_out: set[int], repeat_share: float = 0.5, held_out_share: float = 0.2
) -> list[str]:
    """The documents with less than `repeat_share` of their shingles in `seen` and less than `held_out_share` in
    `held_out`. The shingles of kept documents are added to `seen`."""
    kept = []
    for document in documents:
        own = shingles(document)
        if len(own & held_out) < held_out_share * len(own) and len(own & seen) < repeat_share * len(own):
            seen |= own
            kept.append(document)
    return kept


@dataclass(frozen=True)
class TokenSet:
    """Documents as one stream of ids, with `<|endoftext|>` after each."""

    ids: NDArray[np.uint16]  # [tokens]
    starts: NDArray[np.int64]  # [documents], the index of each document's first id

    def __len__(self) -> int:
        return len(self.ids)


def encode_documents(documents: Sequence[str], tokenizer: GPT2Tokenizer) -> TokenSet:
    """Encode documents into one stream, with the end-of-text id after each."""
    rows = [np.array([*ids, END_OF_TEXT_ID], dtype=np.uint16) for ids in tokenizer(list(documents))["input_ids"]]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return TokenSet(np.concatenate(rows), np.cumsum(lengths) - lengths)


def read_text(path: Path) -> str:
    """A file's text, with all line ends (also a lone `\\r`) as `\\n`."""
    return path.read_text(encoding="utf-8")


def read_validation(folder: Path) -> dict[str, list[str]]:
    """The documents of each text file in the folder, by the file's stem."""
    return {path.stem: split_documents(read_text(path)) for path in sorted(folder.glob("*.txt"))}


def read_training(folder: Path, held_out: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The documents of the sets `tales`, `stories` and `books`: cleaned, without duplicates and without held-out text.

    The folder has `childrens_books/*.txt`, `*tale*.txt` and `*stories*.txt`. Raises `PellucidError` if one of the sets
    is empty.
    """
    held_out_shingles: set[int] = set()
    for documents in held_out.values():
        for document in documents:
            held_out_shingles |= shingles(document)
    files = sorted(folder.glob("*.txt"))
    stories = [d for path in files if "stories" in path.stem for d in split_documents(read_text(path))]
    tale_files = [path for path in files if "tale" in path.stem]
    tales = [plain_signs(without_title(d)) for path in tale_files for d in split_documents(read_text(path))]
    books = [d for path in sorted((folder / "childrens_books").glob("*.txt")) for d in unwrap_book(read_text(path))]
    seen: set[int] = set()
    sets = {
        name: without_repeats(documents, seen, held_out_shingles)
        for name, documents in (("tales", tales), ("stories", stories), ("books", books))
    }
    for name, documents in sets.items():
        if not documents:
            raise PellucidError(f"{folder} has no {name}: it needs childrens_books/*.txt, *tale*.txt and *stories*.txt")
    return sets
