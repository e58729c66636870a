-- Sign-in for a team. Append-only: the last row of an account counts, and a session lives until one of its rows has ended_at.

CREATE TABLE facts.account (
    person_id VARCHAR, kind VARCHAR, issuer VARCHAR, subject VARCHAR, email VARCHAR, password_hash VARCHAR, one_time BOOLEAN,
    made_by VARCHAR, recorded_at TIMESTAMP);
CREATE TABLE facts.session (
    token_sha256 VARCHAR, person_id VARCHAR, authentication VARCHAR, started_at TIMESTAMP, expires_at TIMESTAMP, ended_at TIMESTAMP);
-- who is a person, or a hash of what was typed: people type passwords there.
CREATE TABLE facts.sign_in (who VARCHAR, ok BOOLEAN, recorded_at TIMESTAMP);
-- change is add, role, disable or enable; value is the role.
CREATE TABLE facts.person_change (person_id VARCHAR, change VARCHAR, value VARCHAR, made_by VARCHAR, authentication VARCHAR, recorded_at TIMESTAMP);

CREATE VIEW facts.accounts AS SELECT DISTINCT ON (person_id, kind) * FROM facts.account ORDER BY person_id, kind, recorded_at DESC;

CREATE VIEW facts.sessions AS
SELECT token_sha256, person_id, authentication, min(started_at) AS started_at, max(expires_at) AS expires_at, min(ended_at) AS ended_at
FROM facts.session GROUP BY token_sha256, person_id, authentication;

CREATE VIEW facts.disabled AS
SELECT person_id FROM facts.person_change WHERE change IN ('disable', 'enable') GROUP BY person_id HAVING arg_max(change, recorded_at) = 'disable';
