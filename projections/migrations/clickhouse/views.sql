-- Views over the history, replaced at every start. They hold nothing, so they are not numbered migrations.

CREATE OR REPLACE VIEW log_records AS
          SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM trades
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM quotes
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM book_updates
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM bars
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM market_status
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM instruments
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM signals
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM commands
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM venue_reports
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM account_events
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM control_events
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM unreadable_records
COMMENT 'every record held, whatever its table: count and sum(record_crc) per topic partition are compared with Kafka';
