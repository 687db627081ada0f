-- Tombstones are removed by kind and age, which must not read the table.
CREATE INDEX resource_mapping_gone ON resource_mapping (kind, updated_at) WHERE state = 'gone';
