#!/usr/bin/env python3
"""Makes traces/chat.jsonl: a chat service for an hour's busiest minutes, invented. The same file on every machine.

    traces/make_chat.py > traces/chat.jsonl
    traces/make_chat.py --check            is chat.jsonl what this script makes?

Conversations of a few turns begin with one of five system prompts; every turn's prompt is the whole conversation so far. One request in eight
is a long document with a question. Arrivals come in waves, so that the server is idle at times and overloaded at others. Lengths are lognormal,
as in published traces. The format is that of the Mooncake traces: one prefix id for every 512 tokens of a prompt.
"""

import argparse
import heapq
import json
import math
import pathlib
import sys

NUM_REQUESTS = 420
TOKENS_PER_ID = 512
SYSTEM_PROMPTS = [700, 1600, 2300, 512, 3100]  # tokens
FILE = pathlib.Path(__file__).with_name("chat.jsonl")


class Random:
    """splitmix64, because the random module promises no sequence across versions."""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def uniform(self):
        return (self.bits() >> 11) * 2.0**-53

    def below(self, n):
        return self.bits() % n

    def lognormal(self, median, spread, low, high):
        normal = sum(self.uniform() for _ in range(12)) - 6  # near enough, and the same on every machine
        return int(min(high, max(low, median * 2.0 ** (normal * spread))))


class Ids:
    """Numbers of blocks by what is in them and before them."""

    def __init__(self):
        self.known = {}

    def of(self, pieces):
        """`pieces`: (name, tokens) in order. An id covers its 512 tokens and everything before."""
        total = sum(tokens for _, tokens in pieces)
        ids, content, position = [], [], 0
        pending = list(pieces)
        while position < total:
            room = min(TOKENS_PER_ID, total - position)
            block = []
            while room > 0:
                name, tokens = pending[0]
                taken = min(room, tokens)
                block.append((name, tokens, taken))
                pending[0] = (name, tokens - taken)
                if pending[0][1] == 0:
                    pending.pop(0)
                room -= taken
                position += taken
            content.append(tuple(block))
            key = (ids[-1] if ids else -1, content[-1])
            ids.append(self.known.setdefault(key, len(self.known)))
        return ids


def make():
    random, ids, lines = Random(2024), Ids(), []
    events, conversations, now_ms = [], 0, 0.0
    while len(lines) < NUM_REQUESTS:
        # New conversations: a wave of arrivals every 40 seconds.
        while not events or now_ms <= events[0][0]:
            rate_per_s = 0.5 + 3.5 * max(0.0, math.sin(now_ms / 40_000 * 2 * math.pi)) ** 2
            gap_s = random.lognormal(1000, 1.0, 1, 100_000) / 1000 / rate_per_s
            now_ms += gap_s * 1000
            conversations += 1
            system = random.below(len(SYSTEM_PROMPTS))
            pieces = [(f"system {system}", SYSTEM_PROMPTS[system])]
            document = random.below(8) == 0
            if document:
                pieces.append((f"document {conversations}", random.lognormal(9000, 0.6, 2000, 30_000)))
            turns = 1 + random.below(3 if document else 6)
            heapq.heappush(events, (int(now_ms), conversations, 0, turns, pieces))
        at_ms, conversation, turn, turns, pieces = heapq.heappop(events)
        pieces = pieces + [(f"question {conversation}.{turn}", random.lognormal(120, 1.3, 4, 4000))]
        output = random.lognormal(220, 0.9, 8, 1500)
        lines.append({"timestamp": at_ms, "input_length": sum(tokens for _, tokens in pieces), "output_length": output, "hash_ids": ids.of(pieces)})
        if turn + 1 < turns:
            pieces = pieces + [(f"answer {conversation}.{turn}", output)]
            pause_ms = output * 25 + random.lognormal(9000, 0.8, 1500, 60_000)
            heapq.heappush(events, (at_ms + pause_ms, conversation, turn + 1, turns, pieces))
    return "".join(json.dumps(line) + "\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = make()
    if arguments.check:
        same = FILE.read_text() == text
        print(f"{FILE.name}: {'as made' if same else 'differs from what this script makes'}")
        return 0 if same else 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
