-- Named filters, whose members are as they were when the filter was saved (the file slices/<name>.json in the workspace lists them), and who signed
-- which bias report: a report is named by the SHA-256 of its bytes. Both are append-only.
CREATE TABLE facts.saved_filter (
    name VARCHAR, filter VARCHAR, faces INTEGER, members_sha256 VARCHAR, person_id VARCHAR, role VARCHAR, authentication VARCHAR,
    recorded_at TIMESTAMP);
CREATE TABLE facts.report_signature (
    event_id UUID PRIMARY KEY, report_sha256 VARCHAR, run_id VARCHAR, version_id VARCHAR, manifest_sha256 VARCHAR, note VARCHAR,
    person_id VARCHAR, role VARCHAR, authentication VARCHAR, recorded_at TIMESTAMP);
CREATE VIEW saved_filters AS SELECT * FROM facts.saved_filter;
CREATE VIEW report_signatures AS SELECT * FROM facts.report_signature;
