"""One life of the demo's broker process; its only argument is `Settings` as JSON."""

import json
import sys

import trio

from wherry.demo.replay import Settings, replay

if __name__ == "__main__":
    trio.run(replay, Settings(**json.loads(sys.argv[1])))
