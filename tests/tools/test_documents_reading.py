"""Files of every kind as passages, each on its line."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.tools.documents import reading
from agentkit.tools.documents.html_text import html_text
from agentkit.tools.documents.passages import BREAK, LONGEST, passages_of
from agentkit.tools.documents.reading import MOST_BYTES, Patience, Unread, read_file
from agentkit.tools.documents.sentences import plain
from agentkit.tools.documents.tool import document_search, read_folder


def pdf(*pages: str) -> bytes:
    """A PDF with one line of text a page."""
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(len(pages)))
    font = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()]
    for number, text in enumerate(pages):
        stream = zlib.compress(f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode())
        page = f"<< /Type /Page /Parent 2 0 R /Resources {font} /Contents {4 + 2 * number} 0 R >>"
        head = f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n".encode()
        objects += [page.encode(), head + stream + b"\nendstream"]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}trailer\n"
    return body + f"{end}<< /Size {len(places) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n".encode()


@pytest.mark.parametrize(
    ("path", "content", "passages"),
    [
        ("a.txt", "Hello.\r\n\r\nWorld.", [("", 1, "Hello.\n\nWorld.")]),
        ("a.txt", "\n\n  Hello.", [("", 3, "  Hello.")]),
        ("a.md", "# A\n\ntext\n## B\nmore", [("A", 3, "text"), ("A > B", 5, "more")]),
        ("a.md", "# A\n# B #\ntext", [("A", 1, "A"), ("B", 3, "text")]),
        ("a.md", "text\n# Last", [("", 1, "text"), ("Last", 2, "Last")]),
        ("a.md", "```\n# no heading\n```", [("", 1, "```\n# no heading\n```")]),
        ("a.rst", "Title\n=====\n\nPart\n----\ntext", [("Title > Part", 6, "text")]),
        ("a.py", "# not a heading\nx = 1\n", [("", 1, "# not a heading\nx = 1")]),
        ("Makefile", "run:\n\tpython x", [("", 1, "run:\n\tpython x")]),
        ("a.csv", 'what,price\nPen,"2\neuros"\nInk,3\nodd\n',
         [("", 1, "what, price\nwhat: Pen, price: 2 euros\n\nwhat: Ink, price: 3\nodd")]),
        ("a.tsv", "what\tprice\nPen\t2", [("", 1, "what, price\nwhat: Pen, price: 2")]),
        ("a.html", "<title>T</title>\n<h1>A</h1>\n<p>one <b>two</b> <i>three</i><br>four\n<h2>B</h2>five",
         [("T > A", 3, f"one two three{BREAK}four"), ("T > A > B", 4, "five")]),
        ("a.htm", "<p>x</p><script>secret()</script>\n<style>p {}</style><nav>menu</nav>\n\n<p>y &amp; z</p>",
         [("", 1, f"x{BREAK}\n\n\ny & z")]),
        ("a.html", "<table><tr><th>A<th>B<tr><td>1<td>2</table>", [("", 1, f"A, B{BREAK}1, 2")]),
        ("a.html", "<p>seen<script>never closed", [("", 1, "seen")]),
    ],
)  # fmt: skip
def test_passages_know_their_headings_and_lines(path: str, content: str, passages: list[tuple[str, int, str]]) -> None:
    assert [(p.heading, p.line, p.body) for p in read_file(path, content.encode())] == passages


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("naïve café".encode(), "naïve café"),
        ("\ufeffnaïve".encode(), "naïve"),
        ("naïve".encode("utf-16"), "naïve"),
        ("naïve".encode("utf-32"), "naïve"),
        ("Der Bär läuft über die Brücke und hört schöne Töne.".encode("cp1252"),
         "Der Bär läuft über die Brücke und hört schöne Töne."),
        ("Сегодня мы идём в большой театр, а потом домой.".encode("cp1251"),
         "Сегодня мы идём в большой театр, а потом домой."),
        ("naïve".encode()[:3], "na"),
    ],
)  # fmt: skip
def test_encodings_are_found_out(content: bytes, text: str) -> None:
    assert [passage.body for passage in read_file("a.txt", content)] == [text]


def test_a_page_names_its_encoding() -> None:
    page = '<meta charset="koi8-r"><p>привет</p>'.encode("koi8-r")
    assert [passage.body for passage in read_file("a.html", page)] == ["привет"]


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0", bytes(range(1, 32)) * 40])
def test_what_is_no_text_is_not_read(content: bytes) -> None:
    with pytest.raises(Unread, match="no text"):
        read_file("a.txt", content)


def test_pages_of_a_pdf(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pypdf")
    found = read_file("a.PDF", pdf("The valve opens at 40 bar.", "Call Mia."))
    assert [(p.page, p.line, p.body) for p in found] == [(1, 1, "The valve opens at 40 bar."), (2, 1, "Call Mia.")]
    assert read_file("a.pdf", pdf("The valve opens at 40 bar.", "Call Mia.") + bytes(5_000_000)) == found
    endless = bytes(50_000_000)
    for damaged in (b"%PDF-1.4 nothing", b"", pdf("x")[:300], b"%PDF-1.4\n" + endless, b"%PDF" + endless + b"%%EOF"):
        with pytest.raises(Unread, match=r"it is damaged \(|its pages are pictures"):
            read_file("a.pdf", damaged)
    assert capfd.readouterr() == ("", "")


def test_long_texts_are_cut_at_sentences() -> None:
    text = "One sentence of words. " * 400
    found = list(passages_of(text + "\n\nlast", "marked"))
    assert "".join(p.body for p in found).replace(" ", "").replace("\n", "") == (text + "last").replace(" ", "")
    assert all(len(p.body) <= LONGEST for p in found)
    assert all(p.body.endswith(".") for p in found[:-1])
    assert (found[0].line, found[-1].body.split("\n")[-1]) == (1, "last")


kinds = st.sampled_from(["marked", "plain", "lines"])
lines = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\u2029"), max_size=30))


@settings(deadline=None)
@given(lines, kinds)
def test_each_line_is_in_a_passage_where_it_says(lines: list[str], kind: str) -> None:
    text = "\n".join(lines)
    for passage in passages_of(text, kind):  # type: ignore[arg-type]
        for offset, line in enumerate(passage.body.split("\n")):
            there = lines[passage.line - 1 + offset].strip()
            assert line.strip() in there or not line.strip() or passage.body == passage.heading.split(" > ")[-1]


tags = st.sampled_from(
    "<p> </p> <b> <script> </script> <style> <!-- --> <![CDATA[ ]]> <!DOCTYPE <? <a\xa0b=' > < & &amp; &#0; "
    "&#x110000; <h1> </h1> <title> </title> <td> <svg> </svg> </ <br/> <nav".split(" ")
)


@settings(deadline=None)
@given(st.lists(tags | st.text(max_size=8), max_size=40))
def test_no_markup_crashes(pieces: list[str]) -> None:
    markup = "".join(pieces)
    _, text, _ = html_text(markup)
    assert text.count("\n") <= markup.count("\n")


@pytest.mark.slow
@given(st.lists(st.text(alphabet="abc .,", min_size=1, max_size=12), max_size=8))
def test_scripts_are_never_seen(texts: list[str]) -> None:
    markup = "".join(f"<p>{text}</p><script>HIDDEN</script><style>HIDDEN</style>" for text in texts)
    _, text, _ = html_text(markup)
    assert "".join(text.replace(BREAK, "").split()) == "".join("".join(texts).split())


def impatient(most_s: float = 0.0) -> Patience:
    return Patience(0.0)


LINES = "one, two. 漢字。\n\n" * 3000


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.md", "# Title\n" * 3 + LINES),
        ("a.csv", LINES),
        ("a.html", "<p>one</p>\n" * 3000),
        ("a.py", LINES),
        ("a.pdf", pdf(*["one"] * 600)),
    ],
)
def test_a_file_that_takes_too_long_is_read_as_far_as_time_goes(
    path: str, content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / path).write_bytes(data)
    whole = list(read_file(path, data))
    monkeypatch.setattr(reading, "Patience", impatient)
    if path.endswith("pdf"):
        with pytest.raises(Unread, match="takes too long"):
            read_file(path, data)
    else:
        found = read_file(path, data)
        assert found.left_out == "it takes too long to read"
        assert 0 < len(found) < len(whole)
        *before, last = found
        assert before == whole[: len(before)]
        assert whole[len(before)].body.startswith(last.body)
    (note,) = read_folder(str(tmp_path))
    part = "not searched" if path.endswith("pdf") else "searched at the beginning only"
    assert note == f"{path} is {part}: it takes too long to read"


def test_no_more_is_put_into_the_index_than_there_is_time_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.md").write_text("First the valve.\n\n" + LINES + "\n\nLast the gasket.")
    monkeypatch.setattr("agentkit.tools.documents.index.MOST_S", 0.0)
    search = document_search(tmp_path, index=tmp_path.parent / f"{tmp_path.name}.sqlite")
    assert "First the valve" in str(search.call("valve"))
    assert search.call("gasket").readings == ("a.md is searched at the beginning only: it takes too long to read",)
    (tmp_path / "a.md").write_text("Now the gasket.")  # what was left out is not missed when it is taken out again
    assert "Now the gasket" in str(
        document_search(tmp_path, index=tmp_path.parent / f"{tmp_path.name}.sqlite").call("gasket")
    )


def test_names_that_stand_before_every_value_have_an_end() -> None:
    content = f"{'x' * 10_000},b\n" + "1,2\n" * 10_000
    found = read_file("a.csv", content.encode())
    assert sum(len(passage.body) for passage in found) < 2 * MOST_BYTES
    assert found.left_out == "it takes too long to read"


def test_a_title_has_an_end() -> None:
    (found, *_) = read_file("a.html", f"<title>{'t' * 100_000}</title><p>text".encode())
    assert len(found.heading) == LONGEST


@pytest.mark.parametrize(
    ("marked", "prose"),
    [
        ("**28 days** of `paid` *leave*, see [the form](http://x/y \"t\") ~~now~~.",
         "28 days of paid leave, see the form now."),
        ("- Tell __everyone__", "Tell everyone"),
        ("> 2) quoted", "2) quoted"),
        ("| Hotel | 140 euros |", "Hotel, 140 euros"),
        ("|---|:-:|", ""),
        ("2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"),
        ("![a cat](cat.png)\nasleep", "a cat asleep"),
    ],
)  # fmt: skip
def test_marks_are_taken_off(marked: str, prose: str) -> None:
    assert plain(marked) == prose
