"""An expert as a web service: EXPERT=my-expert uvicorn serve:app

curl --data-binary @photo.jpg http://127.0.0.1:8000/predict
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from edgedistill_deploy import Expert
from edgedistill_deploy.errors import DataError

MOST_BYTES = 20_000_000  # of a picture that is sent


@contextlib.asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Load the expert once, before the first request."""
    with Expert(os.environ.get("EXPERT", "my-expert")) as expert:
        app.state.expert = expert
        yield


app = FastAPI(title="An expert", lifespan=opened)


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """Say what the expert sees in the picture that is the body of the request."""
    content = bytearray()
    async for part in request.stream():  # to its end, so that the sender hears the answer
        if len(content) <= MOST_BYTES:
            content += part
    if len(content) > MOST_BYTES:
        raise HTTPException(413, f"A picture may have {MOST_BYTES} bytes.")
    try:  # in a thread, so that pictures are decoded side by side
        answer = await run_in_threadpool(request.app.state.expert.predict, bytes(content))
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    return {"class": answer.class_name, "probability": answer.probability, "in_domain": answer.in_domain}


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """Say which model answers, and its classes."""
    expert: Expert = request.app.state.expert
    return {"precision": expert.model.precision, "classes": expert.class_names}
