"""A training checkpoint of a model without eyes is a model folder, too."""

from __future__ import annotations

from pathlib import Path

import torch

from camelid.checkpoint import load_model, model_files
from camelid.checkpoint.train_state import TrainState, save_train_state
from camelid.testing.tiny import NUM_SPECIAL_TOKENS, tiny_config, tiny_model


def test_it_loads(tmp_path: Path) -> None:
    model = tiny_model("maverick")
    state = TrainState(model.state_dict(), {}, {}, {})
    folder = tmp_path / "step-1"
    save_train_state(folder, state, model_files(tiny_config("maverick"), NUM_SPECIAL_TOKENS))
    found = load_model(folder).state_dict()
    assert found.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor), name
