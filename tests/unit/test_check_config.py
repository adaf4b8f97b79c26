"""Claims about `proxy.check_config`."""

from pathlib import Path

import pytest

from proxy.check_config import check_config
from proxy.core.errors import SettingsInvalid


@pytest.mark.parametrize("print_effective", [False, True])
def test_valid_configuration_is_confirmed(
    capsys: pytest.CaptureFixture[str],
    *,
    print_effective: bool,
) -> None:
    """The verdict goes to standard error, the settings to standard output only if asked."""
    code = check_config(flags={}, config_path=None, print_effective=print_effective)
    output = capsys.readouterr()
    assert code == 0
    assert output.err.splitlines() == [
        "note: store.url is not set: nothing is cached, every request passes through",
        "configuration is valid",
    ]
    assert ("workers: 1  # default" in output.out) is print_effective


def test_invalid_configuration_raises(tmp_path: Path) -> None:
    """The command line turns the problems into lines and an exit code."""
    with pytest.raises(SettingsInvalid):
        check_config(flags={}, config_path=tmp_path / "absent", print_effective=False)
