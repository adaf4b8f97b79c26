"""The one place that names the version; read by the build, the metrics and the log."""

from typing import Final

VERSION: Final = "0.1.0"
