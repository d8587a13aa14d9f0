/** Answers with a greeting. */
export const handler = async (event, context) => {
  const name = event.name ?? "world";
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, request: context.awsRequestId };
};
