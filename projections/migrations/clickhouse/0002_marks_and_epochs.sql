-- What the desk remembers and by which rules it decides, and which start of an instance a command came from.

ALTER TABLE account_events
    ADD COLUMN marked_events Nullable(Int64) COMMENT 'of StateMarked: events of the partition that the mark covers',
    ADD COLUMN account_count Nullable(Int64) COMMENT 'of StateMarked: accounts in the hash, the partition''s own included',
    ADD COLUMN state_hash String COMMENT 'of StateMarked: SHA-256 over what the desk remembers of the partition',
    ADD COLUMN max_quantity Nullable(Decimal(38, 18)) COMMENT 'of RulesApplied: largest order without a limit of its own, base units',
    ADD COLUMN max_notional Nullable(Decimal(38, 18)) COMMENT 'of RulesApplied: largest notional without a limit of its own, quote units',
    ADD COLUMN reference_max_age_ns Nullable(Int64) COMMENT 'of RulesApplied: an older reference price denies, ns',
    ADD COLUMN collar_bps Nullable(Int64) COMMENT 'of RulesApplied: width of the price collar, basis points';

ALTER TABLE commands
    ADD COLUMN epoch Nullable(Int64) COMMENT 'of a strategy''s orders and cancels: control offset of the start of its instance';
