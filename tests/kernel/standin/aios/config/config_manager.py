from pathlib import Path
from typing import Any

import yaml


class ConfigManager:
    def __init__(self) -> None:
        self.config_path = str(Path(__file__).with_name("config.yaml"))
        self.refresh()

    def refresh(self) -> None:
        self.config = yaml.safe_load(Path(self.config_path).read_text())

    def get_llms_config(self) -> dict[str, Any]:
        return self.config.get("llms", {})

    def get_router_config(self) -> dict[str, Any]:
        return self.config.get("llms", {}).get("router", {})


config = ConfigManager()
