GRANT USAGE ON SCHEMA firstseen TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON firstseen.namespaces, firstseen.claims, firstseen.records TO app;
GRANT SELECT ON firstseen.versions, firstseen.generations TO app;
GRANT USAGE ON SEQUENCE firstseen.tokens TO app;
