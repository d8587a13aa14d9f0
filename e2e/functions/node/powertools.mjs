// Powertools for TypeScript with middy: structured logs that carry the request id, and an EMF metric.
import { Logger } from '@aws-lambda-powertools/logger'
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import { MetricUnit, Metrics } from '@aws-lambda-powertools/metrics'
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware'
import { Tracer } from '@aws-lambda-powertools/tracer'
import middy from '@middy/core'

const logger = new Logger({ serviceName: 'orders' })
const metrics = new Metrics({ namespace: 'shop', serviceName: 'orders' })
const tracer = new Tracer({ serviceName: 'orders' })

export const handler = middy(async (event) => {
  logger.info('an order came', { order: event.order })
  metrics.addMetric('orders', MetricUnit.Count, 1)
  return { order: event.order, traced: tracer.isTracingEnabled() }
})
  .use(injectLambdaContext(logger))
  .use(logMetrics(metrics, { captureColdStartMetric: true }))
