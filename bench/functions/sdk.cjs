const { S3Client } = require('@aws-sdk/client-s3')

exports.handler = async () => typeof S3Client
