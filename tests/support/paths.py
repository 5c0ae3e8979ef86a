"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
MODEL = ROOT / "models" / "slot_dnn"
ROLE_SCRIPT = ROOT / "streamtrain" / "online_trainer.py"
COMPOSE_FILE = ROOT / "docker" / "docker-compose.yml"
MUTANTS = TESTS / "mutants"
