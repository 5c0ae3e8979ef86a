"""What an export job leaves for the next incremental model."""

from streamtrain.contracts.inference_models import DueModel
from streamtrain.contracts.manifest import ModelChain, ModelRef
from streamtrain.schedule import PassId
from streamtrain.training.exporter import ExportJob, ModelState

BASE, OLD, NEW = (ModelRef("20240101", number, str(number)) for number in range(3))


def test_a_full_model_begins_a_chain() -> None:
    job = ExportJob(DueModel(PassId("20240101", 2), "full"), ModelState(shrinks=3, deletions=40))
    assert job.chain_with(NEW) == ModelChain(NEW, NEW, 3, 40)


def test_an_incremental_model_continues_it() -> None:
    state = ModelState(shrinks=3, deletions=40)
    job = ExportJob(DueModel(PassId("20240101", 2), "incremental"), state, patches=ModelChain(BASE, OLD, 2, 30))
    assert job.chain_with(NEW) == ModelChain(BASE, NEW, 3, 40)
