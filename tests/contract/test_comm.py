"""Talk between processes: the same promises on the fallback and on Detectron2."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from detectron2.utils import comm


def test_one_process_is_the_main_one_of_one() -> None:
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank()) == (1, 0, 0)
    assert comm.is_main_process()
    comm.synchronize()


def test_one_process_gathers_its_own_data() -> None:
    assert comm.all_gather({"a": 1}) == [{"a": 1}]
    assert comm.gather("data") == ["data"]
    assert isinstance(comm.shared_random_seed(), int)


def _talk(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    comm.synchronize()
    said = {
        "ranks": [comm.get_rank(), comm.get_local_rank(), comm.get_world_size(), comm.is_main_process()],
        "all_gather": comm.all_gather(f"from {rank}"),
        "gather": comm.gather([rank] * (rank + 1)),
        "seed": comm.shared_random_seed(),
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(said))


def test_two_processes_exchange_what_they_have(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_talk, args=(str(tmp_path),), nprocs=2, start_method="fork")

    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["ranks"] == [0, 0, 2, True] and second["ranks"] == [1, 1, 2, False]
    assert first["all_gather"] == second["all_gather"] == ["from 0", "from 1"]
    assert first["gather"] == [[0], [1, 1]] and second["gather"] == []
    assert first["seed"] == second["seed"]
