"""How fast a folder is indexed and searched: python -m tests.benchmarks.documents [FILES]

Writes a folder of FILES (100,000) short texts with words as frequent as in any language (Zipf), then prints the seconds
of a first indexing, of one when nothing and when 300 files have changed, the index's size, and the milliseconds of a
whole search (median and 95th percentile): words of one passage, four of the most frequent words, a word that no text
has, and one word of each text. The folder and the index are removed again.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from agentkit.tools.documents.tool import Documents

VOCABULARY = 60_000
WORDS_A_FILE = 160
SEARCHES = 200


def words() -> list[str]:
    """Words that can be told apart when they are stemmed."""
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aiou"]
    count = len(syllables)
    numbers = random.Random(0).sample(range(count**3), VOCABULARY)
    return [syllables[n % count] + syllables[n // count % count] + syllables[n // count**2] for n in numbers]


class Corpus:
    """Texts of words by Zipf's law."""

    def __init__(self) -> None:
        self.words = words()
        self._weights = list(accumulate(1 / rank**1.07 for rank in range(1, VOCABULARY + 1)))
        self._random = random.Random(1)

    def draw(self, count: int) -> list[str]:
        """Words as a text has them."""
        return self._random.choices(self.words, cum_weights=self._weights, k=count)

    def text(self) -> str:
        """A title and two paragraphs of sentences."""
        drawn = self.draw(WORDS_A_FILE)
        sentences = [" ".join(drawn[start : start + 12]).capitalize() + "." for start in range(0, len(drawn), 12)]
        half = len(sentences) // 2
        return f"# {' '.join(self.draw(3))}\n\n{' '.join(sentences[:half])}\n\n{' '.join(sentences[half:])}\n"

    def write(self, folder: Path, numbers: range) -> None:
        """One file for each number, a thousand in a folder."""
        for number in numbers:
            path = folder / f"{number // 1000:03}" / f"{number:06}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text(self.text(), encoding="utf-8")


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(name: str, documents: Documents, queries: Sequence[str]) -> None:
    """Prints what the queries take."""
    took_ms = sorted(1000 * seconds(lambda query=query: documents.search(query)) for query in queries)
    median, tail = statistics.median(took_ms), took_ms[int(len(took_ms) * 0.95)]
    print(f"{name:<34} median {median:6.1f} ms   95 % {tail:6.1f} ms   worst {took_ms[-1]:6.1f} ms")


def main(count: int) -> None:
    corpus = Corpus()
    with tempfile.TemporaryDirectory() as place:
        folder, index = Path(place) / "folder", Path(place) / "index.sqlite"
        folder.mkdir()
        corpus.write(folder, range(count))
        documents = Documents(folder, index=index, clock=lambda: 0.0)
        print(f"{count:,} files, {sum(path.stat().st_size for path in folder.rglob('*.md')) / 1e6:.0f} MB")
        print(f"first indexing {seconds(documents.refresh):.1f} s")
        print(f"nothing changed {seconds(documents.refresh):.2f} s")
        corpus.write(folder, range(100))
        corpus.write(folder, range(count, count + 100))
        for path in sorted(folder.rglob("*.md"))[1000:1100]:
            path.unlink()
        print(f"300 files changed, added or gone {seconds(documents.refresh):.2f} s")
        print(f"index {index.stat().st_size / 1e6:.0f} MB")
        draw = random.Random(2)
        for size in (1, 2, 4, 8):
            queries = [" ".join(corpus.draw(size)) for _ in range(SEARCHES)]
            report(f"{size} words by their frequency", documents, queries)
        passages = [draw.sample(corpus.text().split(), 4) for _ in range(SEARCHES)]
        report("4 words of one text", documents, [" ".join(passage) for passage in passages])
        often = [" ".join(draw.sample(corpus.words[:40], 4)) for _ in range(SEARCHES)]
        report("4 of the 40 most frequent words", documents, often)
        report("no such word", documents, ["xyzzyx"] * SEARCHES)
        documents.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
