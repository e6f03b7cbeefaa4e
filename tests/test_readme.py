import re
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from tests.helpers import small_cnn

README = Path(__file__).parents[1] / "README.md"


def test_the_notebook_example_runs(capsys):
    """As printed, but for the number of epochs."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert "epochs=40" in block
    data = TensorDataset(torch.rand(20, 1, 16, 16), torch.arange(20) % 2)
    names = {"my_model": small_cnn(), "my_training_set": data, "my_test_set": data}
    exec(block.replace("epochs=40", "epochs=2"), names)
    out = capsys.readouterr().out
    assert "trained for 2 epochs" in out
    assert re.search(r"none +\d\.\d+", out)
