"""The events on the wire: Avro schemas, the catalogue of types, the codec."""
