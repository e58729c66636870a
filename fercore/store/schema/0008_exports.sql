-- Who took which version out of the workspace, in which form, and for which sources the licence was accepted (JSON: source -> why it had to be).
CREATE TABLE facts.export (
    version_id VARCHAR, manifest_sha256 VARCHAR, format VARCHAR, accepted VARCHAR, person_id VARCHAR, role VARCHAR, authentication VARCHAR,
    recorded_at TIMESTAMP);
CREATE VIEW exports AS SELECT * FROM facts.export;
