"""A FastAPI application behind a function URL by way of Mangum."""

from fastapi import FastAPI, Request, Response
from mangum import Mangum

app = FastAPI()


@app.get("/items/{id}")
def item(id: str, q: str | None = None):
    return {"id": id, "q": q}


@app.post("/upper")
async def upper(request: Request):
    text = (await request.body()).decode()
    answer = Response(text.upper(), status_code=201, media_type="text/plain")
    answer.set_cookie("seen", "yes")
    return answer


@app.get("/bytes")
def data():
    return Response(bytes([0, 255, 1, 254]), media_type="application/octet-stream")


handler = Mangum(app, lifespan="off")
