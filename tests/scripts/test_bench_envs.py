"""The cost of a step is measured in all environments."""

import sys

import bench_envs
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_every_way_has_its_costs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_envs.py", "--steps", "8", "--rounds", "1", "--battles", "2"])
    bench_envs.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line[:32].strip() for line in lines] == list(bench_envs.ways(2, "gen1ou"))
    assert all(float(number) > 0 for line in lines for number in line[32:].split())
