"""`python -m compose.grafana.build` writes dashboards and alert rules anew, and takes away those that are gone."""

from __future__ import annotations

from pathlib import Path

from compose.grafana.build.files import files

ROOT = Path(__file__).parents[1]


def write(root: Path) -> None:
    """Write all files under the directory."""
    made = files()
    for path in root.glob("dashboards/*.json"):
        if str(path.relative_to(root)) not in made:
            path.unlink()
    for name, text in made.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(ROOT)
