"""Powertools for Python: structured logs that carry the request id, an EMF metric, and a URL resolver."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="orders")
metrics = Metrics(namespace="shop", service="orders")
app = LambdaFunctionUrlResolver()


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    logger.info("an order came", extra={"order": event["order"]})
    metrics.add_metric(name="orders", unit=MetricUnit.Count, value=1)
    return {"order": event["order"]}


@app.get("/orders/<order>")
def order(order: str):
    return {"order": order, "agent": app.current_event.get_query_string_value("agent")}


def url_handler(event, context):
    return app.resolve(event, context)
