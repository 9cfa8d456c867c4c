-- Account state, folded from accounts.events.v1 and control.events.v1. Everything in this schema is written by the
-- projection alone, together with the log position it was folded to; it can be dropped and rebuilt from the topics.
-- Nothing here depends on when a row was written: two folds of the same log are equal row for row.

CREATE TABLE log_positions (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    records bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE log_positions IS 'how far the log is folded; written in the same transaction as the rows';
COMMENT ON COLUMN log_positions.topic IS 'topic, without the installation prefix';
COMMENT ON COLUMN log_positions.partition IS 'partition of the topic';
COMMENT ON COLUMN log_positions.next_offset IS 'offset of the next record to fold';
COMMENT ON COLUMN log_positions.records IS 'records folded so far';

CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    tenant_id text NOT NULL,
    venue text,
    label text,
    opened_at bigint,
    halted_reason text,
    stream_version bigint NOT NULL,
    last_event_id text NOT NULL,
    last_event_at bigint NOT NULL
);
COMMENT ON TABLE accounts IS 'one row an account';
COMMENT ON COLUMN accounts.account_id IS 'the account';
COMMENT ON COLUMN accounts.tenant_id IS 'its tenant';
COMMENT ON COLUMN accounts.venue IS 'the venue it trades at';
COMMENT ON COLUMN accounts.label IS 'name shown to people';
COMMENT ON COLUMN accounts.opened_at IS 'ts_event of AccountOpened (ns since the epoch, UTC)';
COMMENT ON COLUMN accounts.halted_reason IS 'why it takes no commands; null: it does';
COMMENT ON COLUMN accounts.stream_version IS 'number of its last event';
COMMENT ON COLUMN accounts.last_event_id IS 'id of its last event';
COMMENT ON COLUMN accounts.last_event_at IS 'ts_event of its last event (ns since the epoch, UTC)';

CREATE TABLE balances (
    account_id text NOT NULL,
    asset text NOT NULL,
    free numeric(38, 18) NOT NULL,
    reserved numeric(38, 18) NOT NULL,
    stream_version bigint NOT NULL,
    PRIMARY KEY (account_id, asset)
);
COMMENT ON TABLE balances IS 'what an account owns: free + reserved, the sums of its FREE and RESERVED ledger lines';
COMMENT ON COLUMN balances.account_id IS 'the account';
COMMENT ON COLUMN balances.asset IS 'the asset';
COMMENT ON COLUMN balances.free IS 'available, units of the asset';
COMMENT ON COLUMN balances.reserved IS 'set aside for open orders, units of the asset';
COMMENT ON COLUMN balances.stream_version IS 'event of the account that changed it last';

CREATE TABLE orders (
    order_id text PRIMARY KEY,
    account_id text NOT NULL,
    tenant_id text NOT NULL,
    principal_id text NOT NULL,
    book_id text NOT NULL,
    instrument_id text NOT NULL,
    side text,
    order_type text,
    time_in_force text,
    post_only boolean,
    quantity numeric(38, 18),
    limit_price numeric(38, 18),
    status text NOT NULL,
    filled_quantity numeric(38, 18) NOT NULL,
    leaves_quantity numeric(38, 18) NOT NULL,
    filled_notional numeric(76, 36) NOT NULL,
    average_price numeric(38, 18),
    fill_count bigint NOT NULL,
    venue_order_id text,
    reason text,
    reserved_asset text,
    reserved_amount numeric(38, 18),
    reference_bid numeric(38, 18),
    reference_ask numeric(38, 18),
    code_version text,
    rule text,
    cancel_id text,
    correlation_id text NOT NULL,
    cause_at text NOT NULL,
    ts_init bigint NOT NULL,
    decided_at bigint,
    submitted_at bigint,
    accepted_at bigint,
    first_fill_at bigint,
    last_fill_at bigint,
    closed_at bigint,
    first_version bigint NOT NULL,
    last_version bigint NOT NULL
);
CREATE INDEX orders_by_account ON orders (account_id, first_version);
CREATE INDEX orders_open ON orders (account_id, instrument_id) WHERE closed_at IS NULL;
COMMENT ON TABLE orders IS 'one row an order, with its whole life; denied orders included';
COMMENT ON COLUMN orders.order_id IS 'the order; id of its SubmitOrder command and client order id at the venue';
COMMENT ON COLUMN orders.account_id IS 'the account';
COMMENT ON COLUMN orders.tenant_id IS 'its tenant';
COMMENT ON COLUMN orders.principal_id IS 'on whose behalf';
COMMENT ON COLUMN orders.book_id IS 'sub-book: strategy instance, or manual';
COMMENT ON COLUMN orders.instrument_id IS 'VENUE:BASE/QUOTE';
COMMENT ON COLUMN orders.side IS 'BUY or SELL';
COMMENT ON COLUMN orders.order_type IS 'LIMIT or MARKET as asked';
COMMENT ON COLUMN orders.time_in_force IS 'GTC, IOC, FOK; null on denied orders';
COMMENT ON COLUMN orders.post_only IS 'must not take liquidity; null on denied orders';
COMMENT ON COLUMN orders.quantity IS 'ordered, base units';
COMMENT ON COLUMN orders.limit_price IS 'quote units per base unit; of an authorised market order its collar';
COMMENT ON COLUMN orders.status IS 'AUTHORIZED, SUBMITTED, OUTCOME_UNKNOWN, ACCEPTED, PARTIALLY_FILLED, FILLED, CANCELED, EXPIRED, REJECTED, DENIED, ABSENT';
COMMENT ON COLUMN orders.filled_quantity IS 'executed, base units';
COMMENT ON COLUMN orders.leaves_quantity IS 'ordered and not executed, base units; 0 once the order is closed';
COMMENT ON COLUMN orders.filled_notional IS 'sum of price x quantity of its fills, quote units, exact';
COMMENT ON COLUMN orders.average_price IS 'filled_notional / filled_quantity, quote units per base unit, rounded half-even to 18 places';
COMMENT ON COLUMN orders.fill_count IS 'number of its fills';
COMMENT ON COLUMN orders.venue_order_id IS 'the venue''s order id, once known';
COMMENT ON COLUMN orders.reason IS 'why it was denied, rejected, expired or is unknown; of a denial all breaches';
COMMENT ON COLUMN orders.reserved_asset IS 'asset set aside at authorisation';
COMMENT ON COLUMN orders.reserved_amount IS 'units of reserved_asset set aside at authorisation';
COMMENT ON COLUMN orders.reference_bid IS 'best bid the decision used, quote units per base unit';
COMMENT ON COLUMN orders.reference_ask IS 'best ask the decision used, quote units per base unit';
COMMENT ON COLUMN orders.code_version IS 'SHA-256 of the strategy''s sources and parameters; empty for a person';
COMMENT ON COLUMN orders.rule IS 'which of the strategy''s rules asked';
COMMENT ON COLUMN orders.cancel_id IS 'id of the last CancelOrder command that was authorised';
COMMENT ON COLUMN orders.correlation_id IS 'id of what started it all';
COMMENT ON COLUMN orders.cause_at IS 'topic/partition/offset of its SubmitOrder command';
COMMENT ON COLUMN orders.ts_init IS 'when the outside thing that started it reached SKEET (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.decided_at IS 'ts_event of OrderAuthorized or OrderDenied (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.submitted_at IS 'sent_ts of the gateway''s attempt (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.accepted_at IS 'ts_event of OrderAccepted (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.first_fill_at IS 'ts_event of its first fill (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.last_fill_at IS 'ts_event of its last fill (ns since the epoch, UTC)';
COMMENT ON COLUMN orders.closed_at IS 'ts_event of the event that ended it (ns since the epoch, UTC); null while open';
COMMENT ON COLUMN orders.first_version IS 'stream_version of its first event';
COMMENT ON COLUMN orders.last_version IS 'stream_version of its last event';

CREATE TABLE fills (
    account_id text NOT NULL,
    stream_version bigint NOT NULL,
    event_id text NOT NULL,
    order_id text NOT NULL,
    book_id text NOT NULL,
    instrument_id text NOT NULL,
    venue_order_id text NOT NULL,
    trade_id text NOT NULL,
    side text NOT NULL,
    quantity numeric(38, 18) NOT NULL,
    price numeric(38, 18) NOT NULL,
    fee numeric(38, 18) NOT NULL,
    fee_asset text NOT NULL,
    liquidity text NOT NULL,
    ts_event bigint NOT NULL,
    ts_init bigint NOT NULL,
    PRIMARY KEY (account_id, stream_version)
);
CREATE INDEX fills_by_order ON fills (order_id);
CREATE INDEX fills_by_trade ON fills (account_id, instrument_id, trade_id);
COMMENT ON TABLE fills IS 'one row an execution';
COMMENT ON COLUMN fills.account_id IS 'the account';
COMMENT ON COLUMN fills.stream_version IS 'number of the event in the account''s stream';
COMMENT ON COLUMN fills.event_id IS 'id of the OrderFilled event';
COMMENT ON COLUMN fills.order_id IS 'the order';
COMMENT ON COLUMN fills.book_id IS 'sub-book: strategy instance, or manual';
COMMENT ON COLUMN fills.instrument_id IS 'VENUE:BASE/QUOTE';
COMMENT ON COLUMN fills.venue_order_id IS 'the venue''s order id';
COMMENT ON COLUMN fills.trade_id IS 'the venue''s trade id, unique per instrument';
COMMENT ON COLUMN fills.side IS 'BUY or SELL';
COMMENT ON COLUMN fills.quantity IS 'base units';
COMMENT ON COLUMN fills.price IS 'quote units per base unit';
COMMENT ON COLUMN fills.fee IS 'units of fee_asset';
COMMENT ON COLUMN fills.fee_asset IS 'asset of the fee';
COMMENT ON COLUMN fills.liquidity IS 'MAKER or TAKER';
COMMENT ON COLUMN fills.ts_event IS 'time of the execution at the venue (ns since the epoch, UTC)';
COMMENT ON COLUMN fills.ts_init IS 'when the outside thing that started it reached SKEET (ns since the epoch, UTC)';

CREATE TABLE positions (
    account_id text NOT NULL,
    book_id text NOT NULL,
    instrument_id text NOT NULL,
    quantity numeric(38, 18) NOT NULL,
    cost numeric(76, 36) NOT NULL,
    average_price numeric(38, 18) NOT NULL,
    realized_pnl numeric(76, 36) NOT NULL,
    fees numeric(76, 36) NOT NULL,
    round_trips bigint NOT NULL,
    stream_version bigint NOT NULL,
    PRIMARY KEY (account_id, book_id, instrument_id)
);
COMMENT ON TABLE positions IS 'position of each book in each instrument, folded from its fills by average cost';
COMMENT ON COLUMN positions.account_id IS 'the account';
COMMENT ON COLUMN positions.book_id IS 'sub-book: strategy instance, or manual';
COMMENT ON COLUMN positions.instrument_id IS 'VENUE:BASE/QUOTE';
COMMENT ON COLUMN positions.quantity IS 'base units; negative: the book sold more than it bought';
COMMENT ON COLUMN positions.cost IS 'signed quote units paid for the open quantity';
COMMENT ON COLUMN positions.average_price IS 'cost / quantity, quote units per base unit; 0 when flat';
COMMENT ON COLUMN positions.realized_pnl IS 'realised profit before fees, quote units';
COMMENT ON COLUMN positions.fees IS 'fees taken in the quote asset, quote units';
COMMENT ON COLUMN positions.round_trips IS 'number of returns to flat';
COMMENT ON COLUMN positions.stream_version IS 'event of the account that changed it last';

CREATE TABLE journal_entries (
    account_id text NOT NULL,
    stream_version bigint NOT NULL,
    line integer NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    order_id text,
    ledger text NOT NULL,
    asset text NOT NULL,
    amount numeric(38, 18) NOT NULL,
    book_id text NOT NULL,
    ts_event bigint NOT NULL,
    PRIMARY KEY (account_id, stream_version, line)
);
CREATE INDEX journal_entries_by_asset ON journal_entries (account_id, asset, ledger);
COMMENT ON TABLE journal_entries IS 'every ledger line; the lines of one event sum to zero per asset';
COMMENT ON COLUMN journal_entries.account_id IS 'the account';
COMMENT ON COLUMN journal_entries.stream_version IS 'number of the event in the account''s stream';
COMMENT ON COLUMN journal_entries.line IS 'number of the line in its event, from 1';
COMMENT ON COLUMN journal_entries.event_id IS 'id of the event';
COMMENT ON COLUMN journal_entries.event_type IS 'type of the event';
COMMENT ON COLUMN journal_entries.order_id IS 'the order; null where there is none';
COMMENT ON COLUMN journal_entries.ledger IS 'FREE, RESERVED, EXTERNAL, MARKET, FEES';
COMMENT ON COLUMN journal_entries.asset IS 'the asset';
COMMENT ON COLUMN journal_entries.amount IS 'units of the asset, signed';
COMMENT ON COLUMN journal_entries.book_id IS 'sub-book of the line';
COMMENT ON COLUMN journal_entries.ts_event IS 'time of the event (ns since the epoch, UTC)';

CREATE TABLE denials (
    account_id text NOT NULL,
    stream_version bigint NOT NULL,
    event_id text NOT NULL,
    command_id text NOT NULL,
    command text NOT NULL,
    breaches jsonb NOT NULL,
    ts_event bigint NOT NULL,
    PRIMARY KEY (account_id, stream_version)
);
COMMENT ON TABLE denials IS 'commands that were refused, orders included, with all reasons';
COMMENT ON COLUMN denials.account_id IS 'the account';
COMMENT ON COLUMN denials.stream_version IS 'number of the event in the account''s stream';
COMMENT ON COLUMN denials.event_id IS 'id of the denial';
COMMENT ON COLUMN denials.command_id IS 'the command; of an order its order_id';
COMMENT ON COLUMN denials.command IS 'type of the command';
COMMENT ON COLUMN denials.breaches IS 'list of {control, detail, observed, allowed} in the order of the controls';
COMMENT ON COLUMN denials.ts_event IS 'time of the decision (ns since the epoch, UTC)';

CREATE TABLE balance_differences (
    account_id text NOT NULL,
    stream_version bigint NOT NULL,
    event_id text NOT NULL,
    asset text NOT NULL,
    ledger_total numeric(38, 18) NOT NULL,
    venue_total numeric(38, 18) NOT NULL,
    ts_event bigint NOT NULL,
    PRIMARY KEY (account_id, stream_version)
);
COMMENT ON TABLE balance_differences IS 'each time the venue''s balance was not the ledger''s';
COMMENT ON COLUMN balance_differences.account_id IS 'the account';
COMMENT ON COLUMN balance_differences.stream_version IS 'number of the event in the account''s stream';
COMMENT ON COLUMN balance_differences.event_id IS 'id of the event';
COMMENT ON COLUMN balance_differences.asset IS 'the asset';
COMMENT ON COLUMN balance_differences.ledger_total IS 'the ledger''s balance, units of the asset';
COMMENT ON COLUMN balance_differences.venue_total IS 'the venue''s balance, units of the asset';
COMMENT ON COLUMN balance_differences.ts_event IS 'time of the comparison (ns since the epoch, UTC)';

CREATE TABLE controls_applied (
    partition integer PRIMARY KEY,
    control_offset bigint NOT NULL,
    stream_version bigint NOT NULL,
    ts_event bigint NOT NULL
);
COMMENT ON TABLE controls_applied IS 'how far each partition of the desk acts on control.events.v1';
COMMENT ON COLUMN controls_applied.partition IS 'partition of accounts.events.v1';
COMMENT ON COLUMN controls_applied.control_offset IS 'offset in control.events.v1 acted upon, included';
COMMENT ON COLUMN controls_applied.stream_version IS 'number of the ControlApplied event in the partition''s own stream';
COMMENT ON COLUMN controls_applied.ts_event IS 'time of the event (ns since the epoch, UTC)';

CREATE TABLE kill_switches (
    scope text PRIMARY KEY,
    active boolean NOT NULL,
    cancel_open boolean NOT NULL,
    reason text NOT NULL,
    principal_id text NOT NULL,
    control_offset bigint NOT NULL,
    ts_event bigint NOT NULL
);
COMMENT ON TABLE kill_switches IS 'last state of each kill switch';
COMMENT ON COLUMN kill_switches.scope IS 'platform, tenant:ID or account:ID';
COMMENT ON COLUMN kill_switches.active IS 'whether orders are stopped';
COMMENT ON COLUMN kill_switches.cancel_open IS 'whether open orders were to be canceled';
COMMENT ON COLUMN kill_switches.reason IS 'why, in words';
COMMENT ON COLUMN kill_switches.principal_id IS 'who decided';
COMMENT ON COLUMN kill_switches.control_offset IS 'offset in control.events.v1';
COMMENT ON COLUMN kill_switches.ts_event IS 'time of the decision (ns since the epoch, UTC)';

CREATE TABLE limits (
    scope text PRIMARY KEY,
    version bigint NOT NULL,
    max_quantity numeric(38, 18),
    max_notional numeric(38, 18),
    principal_id text NOT NULL,
    control_offset bigint NOT NULL,
    ts_event bigint NOT NULL
);
COMMENT ON TABLE limits IS 'limits in force, by scope';
COMMENT ON COLUMN limits.scope IS 'platform, tenant:ID or account:ID';
COMMENT ON COLUMN limits.version IS 'number of the version';
COMMENT ON COLUMN limits.max_quantity IS 'largest order, base units; null: unlimited';
COMMENT ON COLUMN limits.max_notional IS 'largest order value, quote units; null: unlimited';
COMMENT ON COLUMN limits.principal_id IS 'who decided';
COMMENT ON COLUMN limits.control_offset IS 'offset in control.events.v1';
COMMENT ON COLUMN limits.ts_event IS 'time of the decision (ns since the epoch, UTC)';

CREATE TABLE strategies (
    instance_id text PRIMARY KEY,
    account_id text,
    tenant_id text NOT NULL,
    strategy text,
    instrument_id text,
    parameters jsonb,
    code_version text,
    status text NOT NULL,
    reason text,
    control_offset bigint NOT NULL,
    ts_event bigint NOT NULL
);
COMMENT ON TABLE strategies IS 'strategy instances and whether they run';
COMMENT ON COLUMN strategies.instance_id IS 'the instance; book_id of its orders';
COMMENT ON COLUMN strategies.account_id IS 'the account it trades for';
COMMENT ON COLUMN strategies.tenant_id IS 'its tenant';
COMMENT ON COLUMN strategies.strategy IS 'module:Class or entry point';
COMMENT ON COLUMN strategies.instrument_id IS 'VENUE:BASE/QUOTE';
COMMENT ON COLUMN strategies.parameters IS 'its parameters';
COMMENT ON COLUMN strategies.code_version IS 'SHA-256 of sources and parameters when it was started';
COMMENT ON COLUMN strategies.status IS 'STARTED, STOPPED or HALTED';
COMMENT ON COLUMN strategies.reason IS 'why it stopped; of a halt handler, file, line and error';
COMMENT ON COLUMN strategies.control_offset IS 'offset in control.events.v1 of its last change';
COMMENT ON COLUMN strategies.ts_event IS 'time of its last change (ns since the epoch, UTC)';
