"""A gateway process with a scripted guard; all else is as the environment's settings say.

`python -m tests.fakes.lone_gateway`
"""

import uvicorn

from server.app import create_app
from server.settings import load_settings
from tests.fakes.scorer import ScriptedLabeller, scripted_guard

if __name__ == "__main__":
    settings = load_settings()
    app = create_app(settings, guard=scripted_guard(labeller=ScriptedLabeller()))
    uvicorn.run(app, port=settings.server.port, log_level="warning", access_log=False)
