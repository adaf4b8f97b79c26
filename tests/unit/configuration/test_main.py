"""Claims about `python -m proxy.configuration`."""

import runpy
import sys

import pytest

from proxy.configuration.__main__ import OUTPUTS, main


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each output is written whole to standard output."""
    assert main([name]) == 0
    assert capsys.readouterr().out == OUTPUTS[name]()


@pytest.mark.parametrize("arguments", [[], ["xml"], ["yaml", "schema"]])
def test_other_arguments_show_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else exits with 2 and says what there is."""
    assert main(arguments) == 2
    assert "{yaml,schema,table,operations}" in capsys.readouterr().err


def test_module_exits_with_the_code_of_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a module, it takes the process's arguments."""
    monkeypatch.setattr(sys, "argv", ["configuration", "nothing"])
    monkeypatch.delitem(sys.modules, "proxy.configuration.__main__")
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("proxy.configuration", run_name="__main__")
