"""The pages in `findings/`, made from the rules' docstrings; the tests hold them against those.

python docs/findings.py
"""

from __future__ import annotations

from pathlib import Path

from lampwork.diagnose.pages import index, pages

FOLDER = Path(__file__).parent / "findings"


def made() -> dict[str, str]:
    """The text of each file."""
    found = pages()
    files = {f"{page.code}.md": page.markdown() for page in found.values()}
    return {"README.md": index(found.values()), **files}


def main() -> None:
    """Write the pages, and take away those of codes that are no more."""
    FOLDER.mkdir(exist_ok=True)
    files = made()
    for stale in set(FOLDER.glob("*.md")) - {FOLDER / name for name in files}:
        stale.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
