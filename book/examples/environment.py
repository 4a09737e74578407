"""What a node makes of the variables in node.env."""

from dataclasses import fields
from pathlib import Path

from durable.cluster import ClusterConfig

lines = Path(__file__).with_name("node.env").read_text().splitlines()
config = ClusterConfig.from_env(dict(line.split("=", 1) for line in lines))
for field in fields(config):
    if field.repr and getattr(config, field.name) != field.default:
        value = getattr(config, field.name)
        print(f"{field.name:18}", *(value if isinstance(value, tuple) else [value]))
print(f"{'secret_key':18} {len(config.secrets)} secret, never shown")
