-- Which pushed sources an instance runs, and what becomes of its orders when it halts.

ALTER TABLE control_events
    ADD COLUMN on_halt LowCardinality(String) COMMENT 'of StrategyStarted: cancel or leave its open orders after a halt',
    ADD COLUMN artefact String COMMENT 'of StrategyStarted and StrategyPushed: SHA-256 of the pushed sources; empty where none were',
    ADD COLUMN size Nullable(Int64) COMMENT 'of StrategyPushed: bytes of the sources',
    ADD COLUMN files Nullable(Int64) COMMENT 'of StrategyPushed: how many files they are';
