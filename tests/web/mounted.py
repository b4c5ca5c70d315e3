"""An app of the user's, with the live server mounted in it; its log is `DB`."""

import os

from fastapi import FastAPI

from runnable_otel.log import open_log
from runnable_otel.server import create_app

app = FastAPI()
app.mount("/live", create_app(open_log(os.environ["DB"]), token="a-token-of-the-tests"))
