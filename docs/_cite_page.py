"""Write the BibTeX entries of the software and of the papers that the cards cite."""

import pathlib
import re
from collections.abc import Iterable, Iterator

import yaml

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Card

# As the cards write it: authors, "title", and a year somewhere after it.
_CITATION = re.compile(r'(?P<authors>[^"]*)"(?P<title>[^"]+?),?".*?(?P<year>20\d\d)')


def write_citations(path: pathlib.Path, software: pathlib.Path) -> None:
    """Write an entry of the software, from CITATION.cff, and one for each paper."""
    entries = [_software(yaml.safe_load(software.read_text("utf-8")))]
    entries += _papers(artifacts.cards().values())
    text = "\n\n".join(entries)
    path.write_text(f"```bibtex\n{text}\n```\n", encoding="utf-8")


def _software(cff: dict) -> str:
    authors = " and ".join(f"{{{author['name']}}}" for author in cff["authors"])
    fields = {"title": cff["title"], "author": authors, "version": cff["version"]}
    return _entry("software", cff["title"].split(":")[0], fields)


def _papers(cards: Iterable[Card]) -> Iterator[str]:
    """Yield one entry per address, from the first card with that address."""
    texts = {}
    for card in cards:
        texts.setdefault(card.citation.url, card.citation.text)
    for url, text in texts.items():
        found = _CITATION.match(text)
        if found is None:
            raise ValueError(f'citation={text!r}: write authors, "title", year')
        authors, title, year = found.group("authors", "title", "year")
        names = [name for name in re.split(r", | and ", authors.strip(" ,")) if name]
        names = [name.replace(" et al.", " and others") for name in names]
        first = names[0].removesuffix(" and others") if names else "anonymous"
        fields = {"title": title, "author": " and ".join(names), "year": year}
        key = f"{first.split()[-1].lower()}{year}"
        yield _entry("misc", key, fields | {"url": url})


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}"
