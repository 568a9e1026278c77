"""Figures as Markdown: a table of one case, and the summary of all."""

from __future__ import annotations

import statistics
from pathlib import Path

from cases import Column, Variant
from loads import Figures
from servers import Relay


def show(columns: list[Column], found: dict[str, list[Figures]]) -> None:
    """Medians; of the first column also lowest and highest, and the ratio to the first server."""
    columns = [
        column
        for column in columns
        if any(column.read(figures) is not None for runs in found.values() for figures in runs)
    ]
    if not columns:
        return
    first = columns[0]
    titles = ["server", first.title, "lowest - highest"]
    titles += [column.title for column in columns[1:]]
    titles += ["ratio"] if first.ratio else []
    print(row(titles))
    print(rule(len(titles)))
    reference: float | None = None
    for label, runs in found.items():
        values = readings(first, runs)
        if not values:
            continue
        middle = statistics.median(values)
        reference = reference if reference is not None else middle
        cells = [label, written(middle, first.unit)]
        cells.append(f"{written(min(values), first.unit)} - {written(max(values), first.unit)}")
        for column in columns[1:]:
            more = readings(column, runs)
            cells.append(written(statistics.median(more), column.unit) if more else "-")
        if first.ratio:
            cells.append(f"{middle / reference:.3g}" if reference else "-")
        print(row(cells), flush=True)


class Summary:
    """One row a case, one column a server; behind them Wherry by each of the others."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._rows: list[list[str]] = []

    def add(
        self,
        headline: str,
        columns: list[Column],
        variants: list[Variant],
        found: dict[str, list[Figures]],
    ) -> None:
        """A server's first variant stands for it."""
        cells: dict[str, str] = {}
        middles: dict[str, float] = {}
        for variant in variants:
            if variant.server in cells:
                continue
            values = [readings(column, found[variant.label]) for column in columns]
            if not all(values):
                continue
            medians = [statistics.median(value) for value in values]
            texts = [written(m, c.unit) for m, c in zip(medians, columns, strict=True)]
            special = variant.label.partition(", ")[2]
            cells[variant.server] = ", ".join(texts) + (f" ({special})" if special else "")
            middles[variant.server] = medians[0]
        self._add(headline, cells, middles)

    def add_ready(self, ready_seconds: dict[str, list[float]]) -> None:
        """From the start of the process until it answers."""
        middles = {
            name: 1000 * statistics.median(seconds)
            for name, seconds in ready_seconds.items()
            if seconds and name != Relay.name
        }
        cells = {name: written(middle, "rate") for name, middle in middles.items()}
        self._add("ready, ms after its start", cells, middles)

    def _add(self, headline: str, cells: dict[str, str], middles: dict[str, float]) -> None:
        texts = [headline, *(cells.get(name, "-") for name in self._servers)]
        for name in self._others():
            ours, theirs = middles.get("Wherry"), middles.get(name)
            texts.append(f"{ours / theirs:.3g}" if ours is not None and theirs else "-")
        self._rows.append(texts)

    def _others(self) -> list[str]:
        """Those that Wherry is compared with: brokers."""
        brokers = [name for name in self._servers if name not in ("Wherry", Relay.name)]
        return brokers if "Wherry" in self._servers else []

    def table(self) -> str:
        titles = ["", *self._servers, *(f"Wherry / {name}" for name in self._others())]
        return "\n".join([row(titles), rule(len(titles)), *map(row, self._rows)])


def put_between(page: Path, name: str, text: str) -> None:
    """Puts `text` into a page, between the two comments that name it."""
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page} has no place between {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def rule(count: int) -> str:
    return "|---" + "|---:" * (count - 1) + "|"


def readings(column: Column, runs: list[Figures]) -> list[float]:
    return [value for run in runs if (value := column.read(run)) is not None]


def written(figure: float, unit: str) -> str:
    if unit == "MB":
        return f"{figure / 1e6:.0f}"
    if unit == "share":
        return f"{figure:.0%}"
    if unit == "rate":
        return f"{figure:,.0f}"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
