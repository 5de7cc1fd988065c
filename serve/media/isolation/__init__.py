"""Decoders in processes of their own: one that crashes, hangs or eats memory costs one medium, and no replica.

    caller -> Workers.read -> a worker that waits -> task on its stdin -> "taken" -> the answer on a pipe of its own
                              keeper thread: as many workers as are wanted and one to spare, imports done

Processes of our own rather than `multiprocessing`: that would import the parent's main module, which in a replica is
Ray's. A worker's answer is JSON and raw arrays, checked against the rules, never a pickle: whoever takes over a decoder
by a crafted file can lie about that file, and cannot run code in the replica. The worker holds no secrets, writes no
files, dumps no core, and dies with its parent. It is no jail: it may still read what its user may read.

A start costs half a second, so workers are used again; after some hundred media each is replaced, for decoders leak.
"""

from serve.media.isolation.workers import PROGRAM, Workers

__all__ = ["PROGRAM", "Workers"]
