"""`docs/terms.md` has every attack and every check."""

import re
from pathlib import Path

import mirst
from mirst.attacks import ATTACKS

ROOT = Path(__file__).parents[2]


def rows(heading):
    """The cells of the table below the heading, without its head."""
    text = (ROOT / "docs" / "terms.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_attack_has_its_terms():
    table = {row[0]: row[1:] for row in rows("Attacks")}
    assert all(len(cells) == 4 and all(cells) for cells in table.values())
    for name, attack in ATTACKS.items():
        assert f"`{attack.__name__}` (`{name}`)" in table
    exported = set(mirst.attacks.__all__) - {"ATTACKS", "Attack", "ConfigurableAttack", "Minimum", "MinimumNormAttack"}
    assert exported - {"StandIns"} == {re.match(r"`(\w+)`", first)[1] for first in table}
    assert {name for name, cells in table.items() if cells[1].startswith("black-box")} == {
        "`Square` (`square`)",
        "`Transfer`",
    }


def test_every_masking_check_has_its_terms():
    sources = (Path(mirst.__file__).parent / "evaluation" / "masking").glob("*.py")
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    made = set(re.findall(r"(?:Check|failing|_missed)\(\s*\"([a-z -]+)\"", code))
    described = set(re.findall(r"^## (.+)$", (ROOT / "docs" / "masking.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert made == described
    assert {row[0] for row in rows("Checks for gradient masking")} == made
