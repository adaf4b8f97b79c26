// What the AWS SDK for JavaScript sees of the proxy: node tour.mjs tour|patient TABLE
// Endpoint, region and credentials come from the environment. Prints one line of JSON.

import {
  ConditionalCheckFailedException,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";

const [mode, TableName] = process.argv.slice(2);
const client = new DynamoDBClient({});
const Key = { pk: { S: `js-${mode}` } };

// The SDK does not show header fields: take them on their way up.
let cacheStatus = "";
client.middlewareStack.add(
  (next) => async (request) => {
    const result = await next(request);
    cacheStatus = result.response.headers["cache-status"] ?? "";
    return result;
  },
  { step: "deserialize", priority: "low", name: "cacheStatus" },
);

async function read() {
  const { Item, $metadata } = await client.send(new GetItemCommand({ TableName, Key }));
  return { value: Item?.v?.S ?? null, says: cacheStatus, attempts: $metadata.attempts };
}

async function write(value, condition) {
  const Item = { ...Key, v: { S: value } };
  const { $metadata } = await client.send(
    new PutItemCommand({ TableName, Item, ConditionExpression: condition }),
  );
  return { says: cacheStatus, attempts: $metadata.attempts };
}

async function refusal() {
  try {
    await write("never", "attribute_not_exists(pk)");
    return "";
  } catch (error) {
    return error instanceof ConditionalCheckFailedException ? error.name : `not ${error.name}`;
  }
}

async function tour() {
  await write("old");
  const miss = await read();
  const hit = await read();
  const written = await write("new");
  const fresh = await read();
  return { miss, hit, written, fresh, refusal: await refusal() };
}

async function patient() {
  const written = await write("patience");
  return { written, read: await read() };
}

console.log(JSON.stringify(await (mode === "tour" ? tour() : patient())));
