/** Writes a line a moment, each flushed to the caller as it is written. */
export const handler = awslambda.streamifyResponse(async (event, responseStream) => {
  const stream = awslambda.HttpResponseStream.from(responseStream, {
    statusCode: 200,
    headers: { "content-type": "text/plain; charset=utf-8" },
  });
  for (const line of ["one", "two", "three"]) {
    stream.write(`${line}\n`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  stream.end();
});
