"""Chat once with the deployment at URL, with the key KEY. Exit status 0 if all is well.

`helm test` runs this in the gateway's image; it needs nothing but Python.
"""

import json
import os
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def ask(path: str, body: dict[str, object] | None = None) -> Any:
    headers = {"authorization": f"Bearer {os.environ['KEY']}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(os.environ["URL"] + path, data, headers), timeout=120) as answer:
        return json.load(answer)


def main() -> int:
    try:
        model = ask("/v1/models")["data"][0]["id"]
        turn = {"role": "user", "content": "What is the capital of France?"}
        reply = ask("/v1/chat/completions", {"model": model, "messages": [turn], "max_tokens": 32})
    except HTTPError as error:
        print(f"{error.url}: {error.code} {error.read().decode()}")
        return 1
    choice = reply["choices"][0]
    print(choice["message"]["content"])
    print(json.dumps(choice["guard"]))
    judged = choice["guard"]["safety"] is not None and choice["guard"]["verdict"] == "allow"
    return 0 if judged and choice["message"]["content"].strip() else 1


sys.exit(main())
