"""All-reduce of float32 among processes with torch.distributed over gloo: prints seconds per round of the slowest
process and processor seconds of all processes per round.

usage: gloo.py PEERS ELEMENTS ROUNDS [RANK MEET]

With a rank it is one of the processes, which meet at the file MEET; each prints its own figures. GLOO_SOCKET_IFNAME names the
network interface, lo otherwise.
"""

import multiprocessing as mp
import os
import resource
import sys
import tempfile
import time


def peer(rank, peers, elements, rounds, meet, out):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + meet, rank=rank, world_size=peers)
    v = torch.full((elements,), float(rank + 1))
    dist.all_reduce(v)  # connections and memory
    if v[0].item() != peers * (peers + 1) / 2:
        raise SystemExit("wrong sum")
    spent = []
    for _ in range(rounds):
        dist.barrier()
        cpu = used()
        began = time.perf_counter()
        dist.all_reduce(v)
        spent.append((time.perf_counter() - began, used() - cpu))
    out.put(spent)
    dist.barrier()


def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime


def main():
    peers, elements, rounds = map(int, sys.argv[1:4])
    if len(sys.argv) > 4:
        out = mp.SimpleQueue()
        peer(int(sys.argv[4]), peers, elements, rounds, sys.argv[5], out)
        spent = out.get()
        print(sum(s[0] for s in spent) / rounds, sum(s[1] for s in spent) / rounds)
        return
    mp.set_start_method("spawn")
    with tempfile.TemporaryDirectory() as home:
        out = mp.Queue()
        ps = [mp.Process(target=peer, args=(r, peers, elements, rounds, home + "/meet", out)) for r in range(peers)]
        for p in ps:
            p.start()
        all_spent = [out.get(timeout=120) for _ in ps]
        for p in ps:
            p.join()
    slowest = [max(s[i][0] for s in all_spent) for i in range(rounds)]
    cpu = [sum(s[i][1] for s in all_spent) for i in range(rounds)]
    print(sum(slowest) / rounds, sum(cpu) / rounds)


if __name__ == "__main__":
    main()
