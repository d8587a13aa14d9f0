interface Event {
  name?: string;
}

interface Context {
  awsRequestId: string;
}

interface Greeting {
  message: string;
  request: string;
}

/** Answers with a greeting. */
export const handler = async (event: Event, context: Context): Promise<Greeting> => {
  const name = event.name ?? "world";
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, request: context.awsRequestId };
};
