// A strategy in a process of your own, in JavaScript: it needs Kafka, Avro and HTTP, and nothing of SKEET.
//
//   npm ci                                                                                   (in this folder; Node 20)
//   node external_strategy.mjs --bootstrap HOST:PORT --registry http://HOST:PORT --tenant acme --account bob
//
// It follows the trades of one instrument, buys and sells a little in turn, and prints what became of each order. A cause
// has one client key, made from the trade's place in the log: the same cause asked for twice is one order.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import avro from "avsc";
import kafkajs from "kafkajs";
import lz4 from "lz4js";

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

const NS_PER_MS = 1_000_000n;
const VALID_NS = 30_000n * NS_PER_MS; // half a minute after its cause an order is not wanted any more
const AMOUNT_SCALE = 18n;

// Nanoseconds and mantissas do not fit into a double.
const longType = avro.types.LongType.__with({
  fromBuffer: (buffer) => buffer.readBigInt64LE(),
  toBuffer: (value) => {
    const buffer = Buffer.alloc(8);
    buffer.writeBigInt64LE(value);
    return buffer;
  },
  fromJSON: BigInt,
  toJSON: String,
  isValid: (value) => typeof value === "bigint",
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
});

// decimal(38,18): a two's complement integer, in units of 10^-18. Here it is text, as people write it.
class Decimal extends avro.types.LogicalType {
  _fromValue(buffer) {
    const bits = BigInt(buffer.length) * 8n;
    const units = BigInt.asIntN(Number(bits), BigInt("0x" + (buffer.toString("hex") || "0")));
    const digits = (units < 0n ? -units : units).toString().padStart(Number(AMOUNT_SCALE) + 1, "0");
    const whole = digits.slice(0, -Number(AMOUNT_SCALE));
    const fraction = digits.slice(-Number(AMOUNT_SCALE)).replace(/0+$/, "");
    return (units < 0n ? "-" : "") + whole + (fraction ? "." + fraction : "");
  }
  _toValue(text) {
    const [whole, fraction = ""] = text.split(".");
    const units = BigInt(whole + fraction.padEnd(Number(AMOUNT_SCALE), "0"));
    let bytes = 1;
    while (BigInt.asIntN(bytes * 8, units) !== units) bytes += 1;
    const hex = BigInt.asUintN(bytes * 8, units).toString(16).padStart(bytes * 2, "0");
    return Buffer.from(hex, "hex");
  }
}

function schemas(url) {
  const known = new Map();
  const get = async (path) => {
    const answer = await fetch(url + path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const byId = async (id) => {
    if (!known.has(id)) {
      const schema = JSON.parse((await get(`/schemas/ids/${id}`)).schema);
      const options = { logicalTypes: { decimal: Decimal }, registry: { long: longType }, wrapUnions: false };
      known.set(id, avro.Type.forSchema(schema, options));
    }
    return known.get(id);
  };
  return {
    latest: async (subject) => {
      const { id } = await get(`/subjects/${encodeURIComponent(subject)}/versions/latest`);
      return { id, type: await byId(id) };
    },
    // Framing: 0, the schema's id in four bytes, the Avro body.
    decode: async (value) => {
      const type = await byId(value.readUInt32BE(1));
      return { name: type.name.split(".").pop(), record: type.fromBuffer(value.subarray(5)) };
    },
  };
}

function say(what, more) {
  process.stdout.write(JSON.stringify({ what, ...more }) + "\n");
}

function priceOf(trade) {
  const digits = trade.price_mantissa.toString().padStart(Number(trade.price_scale) + 1, "0");
  const whole = digits.slice(0, digits.length - Number(trade.price_scale));
  return trade.price_scale > 0n ? `${whole}.${digits.slice(-Number(trade.price_scale))}` : whole;
}

// What is news is printed; true for a whole order filled.
function tell(name, record) {
  if (name === "CommandForwarded") say("forwarded", { key: record.client_key, order: record.command_id });
  if (name === "CommandRefused" || name === "OrderDenied") {
    say("refused", { reasons: record.breaches.map((breach) => `${breach.control}: ${breach.detail}`) });
  }
  if (name !== "OrderFilled") return false;
  say("filled", { order: record.order_id, side: record.side, quantity: record.quantity, price: record.price });
  return record.leaves_quantity === "0";
}

async function run(chosen) {
  const registry = schemas(chosen.registry);
  const kafka = new Kafka({
    brokers: [chosen.bootstrap],
    clientId: "external-js",
    logLevel: logLevel.ERROR,
    ...(chosen["password-file"] && {
      sasl: {
        mechanism: "scram-sha-512",
        username: `t.${chosen.tenant}`,
        password: readFileSync(chosen["password-file"], "utf8").trim(),
      },
    }),
  });
  const own = `${chosen.prefix}t.${chosen.tenant}`;
  const trades = `${chosen.prefix}market.trades.v1`;
  const order = await registry.latest(`${own}.commands.v1-skeet.commands.SubmitOrder`);
  // murmur2, as every Kafka client in Java: all commands of an account stand in one partition, in order.
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  // kafkajs reads committed records only, unless told otherwise.
  const consumer = kafka.consumer({ groupId: `${own}.example-js`, maxWaitTimeInMs: 100 });
  await Promise.all([producer.connect(), consumer.connect()]);

  let waiting = "";
  let filled = 0;
  const submit = async (partition, message) => {
    const key = `js-${partition}-${message.offset}`;
    const tsCause = BigInt(message.timestamp) * NS_PER_MS;
    const value = {
      event_id: key,
      account_id: chosen.account,
      // The rest of the envelope says who is asking: intake writes it anew, whatever stands here.
      tenant_id: "", principal_id: "", correlation_id: "", causation_id: "", cause_at: "",
      ts_event: tsCause, ts_init: tsCause, stream_version: 0n,
      ts_cause: tsCause,
      valid_until: tsCause + VALID_NS,
      book_id: "external-js",
      instrument_id: chosen.instrument,
      side: filled % 2 === 0 ? "BUY" : "SELL",
      order_type: "MARKET",
      time_in_force: "IOC",
      post_only: false,
      quantity: chosen.quantity,
      limit_price: null,
      code_version: "",
      rule: "in-turn",
    };
    const header = Buffer.alloc(5);
    header.writeUInt32BE(order.id, 1);
    const bytes = Buffer.concat([header, order.type.toBuffer(value)]);
    await producer.send({ topic: `${own}.commands.v1`, acks: -1, messages: [{ key: chosen.account, value: bytes }] });
    return key;
  };

  const enough = new Promise((resolve, reject) => {
    setTimeout(() => resolve(1), Number(chosen.seconds) * 1000).unref();
    const eachMessage = async ({ topic, partition, message }) => {
      const { name, record } = await registry.decode(message.value);
      if (topic === trades) {
        if (waiting || filled >= Number(chosen.orders) || record.instrument_id !== chosen.instrument) return;
        waiting = await submit(partition, message);
        say("asked", { key: waiting, because: `trade ${record.trade_id} at ${priceOf(record)}` });
      } else if (record.account_id === chosen.account) {
        filled += tell(name, record) ? 1 : 0;
        if (["OrderFilled", "OrderDenied", "OrderRejected", "OrderExpired", "CommandRefused"].includes(name)) waiting = "";
        if (filled >= Number(chosen.orders)) resolve(0);
      }
    };
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
    consumer
      .subscribe({ topics: [trades, `${own}.events.v1`], fromBeginning: false })
      .then(() => consumer.run({ eachMessage }))
      .catch(reject);
  });
  const code = await enough;
  await Promise.all([producer.disconnect(), consumer.disconnect()]);
  return code;
}

const { values } = parseArgs({
  options: {
    bootstrap: { type: "string" },
    registry: { type: "string" },
    tenant: { type: "string" },
    account: { type: "string" },
    instrument: { type: "string", default: "SIM:BTC/USDT" },
    quantity: { type: "string", default: "0.001" },
    orders: { type: "string", default: "4" },
    seconds: { type: "string", default: "60" },
    prefix: { type: "string", default: "skeet." },
    "password-file": { type: "string", default: "" },
  },
});
for (const name of ["bootstrap", "registry", "tenant", "account"]) {
  if (!values[name]) {
    process.stderr.write(`--${name} is missing; skeet connect kafka shows addresses\n`);
    process.exit(2);
  }
}
process.exit(await run(values));
