"""All attacks once more, through `bncheck verify`, which reads what nothing else reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import (
    test_attacking_archives,
    test_attacking_bundles,
    test_attacking_hdf5,
    test_attacking_objects,
    test_attacking_places,
    test_attacking_slices,
)
from tests.attacks.attack import Attack, attacked

FAMILIES = (
    test_attacking_archives,
    test_attacking_bundles,
    test_attacking_hdf5,
    test_attacking_objects,
    test_attacking_places,
    test_attacking_slices,
)
ATTACKS: dict[str, Attack] = {
    f"{family.__name__.rpartition('_')[2]}: {name}": attack
    for family in FAMILIES
    for name, attack in family.ATTACKS.items()
    if attack.command == "inspect"
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, name: str) -> None:
    attack = ATTACKS[name]
    place = tmp_path / "attack"
    place.mkdir()
    path = attack.make(place)
    attacked(tmp_path, "verify", str(path), reads=attack.reads)
