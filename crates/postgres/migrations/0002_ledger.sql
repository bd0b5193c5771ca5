-- firstseen for Postgres, version 2: the records of ledgers.
--
-- Codes. state: 1 running, 2 waiting, 3 held, 4 completed, 5 dead. cause of a dead one: 1 attempts, 2 final, 3 lease ended,
-- 4 cancelled. How an attempt ended: 1 completed, 2 failed, 3 final, 4 held, 5 lease ended, 6 released.

-- Fencing tokens. A sequence never goes back, also when the server crashes: it skips then.
CREATE SEQUENCE firstseen.tokens;

CREATE TABLE firstseen.records (
    namespace integer NOT NULL,
    state smallint NOT NULL,
    cause smallint NOT NULL,
    attempts bigint NOT NULL,
    -- When the lease of a running one ends, or the retry of a waiting one is due.
    until bigint NOT NULL,
    -- When the record ends by itself.
    ends bigint NOT NULL,
    first_begun bigint NOT NULL,
    token bigint NOT NULL,
    -- The call that began the attempt: repeated, it hears that it did.
    call uuid NOT NULL,
    is_failure boolean NOT NULL,
    id bytea NOT NULL,
    worker bytea NOT NULL,
    fingerprint bytea,
    result bytea,
    -- The attempts that have ended, the oldest first.
    past_tokens bigint[] NOT NULL,
    past_ends smallint[] NOT NULL,
    past_workers bytea[] NOT NULL,
    past_reasons bytea[] NOT NULL,
    PRIMARY KEY (namespace, id)
) WITH (fillfactor = 80);
CREATE INDEX records_dead ON firstseen.records (namespace, id) INCLUDE (ends) WHERE state IN (3, 5);
CREATE INDEX records_ends ON firstseen.records (ends) WHERE ends < 9223372036854775807;

-- What a caller is told. answer: 0 done, or the attempt is started; 1 to 5 refused because of that state; 6 another
-- fingerprint; 7 fenced; 8 the attempt is over; 9 its lease has ended. state is NULL if there is no record.
CREATE TYPE firstseen.told AS (
    answer smallint,
    now bigint,
    state smallint,
    cause smallint,
    attempts bigint,
    until bigint,
    first_begun bigint,
    token bigint,
    is_failure boolean,
    worker bytea,
    fingerprint bytea,
    result bytea,
    past_tokens bigint[],
    past_ends smallint[],
    past_workers bytea[],
    past_reasons bytea[]
);

CREATE FUNCTION firstseen.tell(p_answer integer, p_now bigint, r firstseen.records) RETURNS firstseen.told
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(
        p_answer::smallint, p_now, r.state, r.cause, r.attempts, r.until, r.first_begun, r.token, r.is_failure,
        r.worker, r.fingerprint, r.result, r.past_tokens, r.past_ends, r.past_workers, r.past_reasons
    )::firstseen.told
$$;

-- Adds to the history how the current attempt has ended. What it says itself takes the place of what others had noted.
CREATE FUNCTION firstseen.note(r firstseen.records, p_end integer, p_reason bytea) RETURNS firstseen.records
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_kept_max CONSTANT integer := 8;
    v_count integer := cardinality(r.past_tokens);
    v_first integer;
BEGIN
    IF v_count > 0 AND r.past_tokens[v_count] = r.token THEN
        v_count := v_count - 1;
    END IF;
    v_first := greatest(1, v_count + 2 - v_kept_max);
    r.past_tokens := r.past_tokens[v_first:v_count] || r.token;
    r.past_ends := r.past_ends[v_first:v_count] || p_end::smallint;
    r.past_workers := r.past_workers[v_first:v_count] || r.worker;
    r.past_reasons := r.past_reasons[v_first:v_count] || p_reason;
    RETURN r;
END
$$;

CREATE FUNCTION firstseen.bury(r firstseen.records, p_cause integer, p_ttl bigint, p_now bigint) RETURNS firstseen.records
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    r.state := 5;
    r.cause := p_cause;
    r.ends := CASE WHEN p_ttl IS NULL THEN 9223372036854775807 ELSE p_now + p_ttl END;
    RETURN r;
END
$$;

-- Writes a record that the caller has locked.
CREATE FUNCTION firstseen.put(r firstseen.records) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE firstseen.records AS o SET
        state = r.state, cause = r.cause, attempts = r.attempts, until = r.until, ends = r.ends,
        first_begun = r.first_begun, token = r.token, call = r.call, is_failure = r.is_failure, worker = r.worker,
        fingerprint = r.fingerprint, result = r.result, past_tokens = r.past_tokens, past_ends = r.past_ends,
        past_workers = r.past_workers, past_reasons = r.past_reasons
    WHERE o.namespace = r.namespace AND o.id = r.id;
END
$$;

-- Returns why an attempt may not go on, as an answer: 0 if its record is running, also if its lease has ended.
CREATE FUNCTION firstseen.refusal(r firstseen.records, p_token bigint, p_now bigint) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_last CONSTANT integer := cardinality(r.past_tokens);
BEGIN
    IF r.id IS NULL OR r.ends <= p_now OR p_token <= 0 OR r.token <> p_token THEN
        RETURN 7;
    ELSIF r.state = 1 THEN
        RETURN 0;
    ELSIF r.state = 4 AND r.past_ends[v_last] <> 1 THEN
        RETURN 7; -- An operator has settled it.
    ELSIF r.past_tokens[v_last] = p_token AND r.past_ends[v_last] <> 5 THEN
        RETURN 8;
    END IF;
    RETURN 9; -- Held or dead, because the attempt was silent.
END
$$;

CREATE FUNCTION firstseen.begin_attempt(
    p_namespace bytea, p_id bytea, p_lease bigint, p_worker bytea, p_fingerprint bytea,
    p_on_lease_end integer, p_attempts_max bigint, p_dead_ttl bigint, p_call bytea,
    p_lock_ms integer, p_relaxed boolean
) RETURNS firstseen.told
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_never CONSTANT bigint := 9223372036854775807;
    v_call CONSTANT uuid := encode(p_call, 'hex')::uuid;
    v_namespace integer;
    v_now bigint;
    v_is_locked boolean := false;
    r firstseen.records;
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    LOOP
        SELECT number INTO v_namespace FROM firstseen.namespaces WHERE name = p_namespace;
        EXIT WHEN FOUND;
        INSERT INTO firstseen.namespaces (name) VALUES (p_namespace) ON CONFLICT (name) DO NOTHING;
    END LOOP;

    LOOP
        IF v_is_locked THEN
            SELECT * INTO r FROM firstseen.records WHERE namespace = v_namespace AND id = p_id FOR UPDATE;
        ELSE
            SELECT * INTO r FROM firstseen.records WHERE namespace = v_namespace AND id = p_id;
        END IF;
        v_now := firstseen.clock();
        IF r.id IS NULL THEN
            r := (
                v_namespace, 1, 0, 1, v_now + p_lease, v_never, v_now, nextval('firstseen.tokens'), v_call, false,
                p_id, p_worker, p_fingerprint, NULL, '{}', '{}', '{}', '{}'
            );
            INSERT INTO firstseen.records SELECT r.* ON CONFLICT (namespace, id) DO NOTHING;
            IF FOUND THEN
                RETURN firstseen.tell(0, v_now, r);
            END IF;
            CONTINUE;
        END IF;

        IF r.ends > v_now THEN
            IF r.state = 1 AND r.call = v_call AND r.until > v_now THEN
                RETURN firstseen.tell(0, v_now, r);
            ELSIF r.fingerprint <> p_fingerprint THEN
                r.result := NULL;
                r.is_failure := false;
                r.past_reasons := array_fill(''::bytea, ARRAY[cardinality(r.past_tokens)]);
                RETURN firstseen.tell(6, v_now, r);
            ELSIF r.state > 2 OR r.until > v_now THEN
                RETURN firstseen.tell(r.state, v_now, r);
            END IF;
        END IF;
        -- What follows changes the record: decide once more from what it is under a lock.
        EXIT WHEN v_is_locked;
        v_is_locked := true;
    END LOOP;

    IF r.ends <= v_now THEN
        -- Its ttl has passed: it counts as none.
        r := (
            v_namespace, 2, 0, 0, v_now, v_never, v_now, r.token, v_call, false,
            p_id, p_worker, NULL, NULL, '{}', '{}', '{}', '{}'
        );
    ELSIF r.state = 1 THEN
        r := firstseen.note(r, 5, '');
        IF p_on_lease_end = 2 THEN
            r.state := 3;
        ELSIF p_on_lease_end = 3 THEN
            r := firstseen.bury(r, 3, p_dead_ttl, v_now);
        END IF;
    END IF;
    IF r.state <= 2 THEN
        IF r.attempts >= p_attempts_max THEN
            r := firstseen.bury(r, 1, p_dead_ttl, v_now);
        ELSE
            r.state := 1;
            r.attempts := r.attempts + 1;
            r.until := v_now + p_lease;
            -- The record may have come here without the sequence, by logical replication.
            r.token := greatest(
                nextval('firstseen.tokens'), r.token + 1, r.past_tokens[cardinality(r.past_tokens)] + 1
            );
            r.call := v_call;
            r.worker := p_worker;
            r.fingerprint := coalesce(r.fingerprint, p_fingerprint);
        END IF;
    END IF;
    PERFORM firstseen.put(r);
    RETURN firstseen.tell(CASE WHEN r.state = 1 THEN 0 ELSE r.state END, v_now, r);
END
$$;

CREATE FUNCTION firstseen.renew_attempt(
    p_namespace bytea, p_id bytea, p_token bigint, p_lease bigint, p_lock_ms integer, p_relaxed boolean
) RETURNS firstseen.told
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_now bigint;
    v_answer integer;
    r firstseen.records;
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    SELECT o.* INTO r FROM firstseen.records AS o
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id
    FOR UPDATE;
    v_now := firstseen.clock();
    v_answer := firstseen.refusal(r, p_token, v_now);
    IF v_answer = 0 THEN
        IF r.until > v_now THEN
            UPDATE firstseen.records SET until = v_now + p_lease WHERE namespace = r.namespace AND id = r.id;
        ELSE
            v_answer := 9;
        END IF;
    END IF;
    IF r.ends <= v_now THEN
        r := NULL;
    END IF;
    RETURN firstseen.tell(v_answer, v_now, r);
END
$$;

CREATE FUNCTION firstseen.end_attempt(
    p_namespace bytea, p_id bytea, p_token bigint, p_end integer, p_reason bytea,
    p_result bytea, p_is_failure boolean, p_ttl bigint, p_retry_after bigint,
    p_attempts_max bigint, p_dead_ttl bigint, p_lock_ms integer, p_relaxed boolean
) RETURNS firstseen.told
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_never CONSTANT bigint := 9223372036854775807;
    v_now bigint;
    v_answer integer;
    r firstseen.records;
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    SELECT o.* INTO r FROM firstseen.records AS o
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id
    FOR UPDATE;
    v_now := firstseen.clock();
    v_answer := firstseen.refusal(r, p_token, v_now);
    IF v_answer = 9 THEN
        -- The effect has happened, and refusing to know it would make a second one. The rest is left to the operator.
        v_answer := CASE WHEN p_end = 1 THEN 0 ELSE 7 END;
    END IF;
    IF v_answer <> 0 THEN
        IF r.ends <= v_now THEN
            r := NULL;
        END IF;
        RETURN firstseen.tell(v_answer, v_now, r);
    END IF;

    r := firstseen.note(r, p_end, p_reason);
    r.cause := 0;
    r.ends := v_never;
    CASE p_end
        WHEN 1 THEN
            r.state := 4;
            r.result := p_result;
            r.is_failure := p_is_failure;
            r.ends := CASE WHEN p_ttl IS NULL THEN v_never ELSE v_now + p_ttl END;
        WHEN 2 THEN
            IF r.attempts >= p_attempts_max THEN
                r := firstseen.bury(r, 1, p_dead_ttl, v_now);
            ELSE
                r.state := 2;
                r.until := v_now + p_retry_after;
            END IF;
        WHEN 3 THEN
            r := firstseen.bury(r, 2, p_dead_ttl, v_now);
        WHEN 4 THEN
            r.state := 3;
        WHEN 6 THEN
            r.state := 2;
            r.until := v_now;
            r.attempts := greatest(r.attempts - 1, 0);
    END CASE;
    PERFORM firstseen.put(r);
    RETURN firstseen.tell(0, v_now, r);
END
$$;

-- Returns the record of an id; state is NULL if there is none.
CREATE FUNCTION firstseen.record(p_namespace bytea, p_id bytea) RETURNS firstseen.told
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_now bigint;
    r firstseen.records;
BEGIN
    SELECT o.* INTO r FROM firstseen.records AS o
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id;
    v_now := firstseen.clock();
    IF r.ends <= v_now THEN
        r := NULL;
    END IF;
    RETURN firstseen.tell(0, v_now, r);
END
$$;

CREATE FUNCTION firstseen.redrive(p_namespace bytea, p_id bytea, p_lock_ms integer, p_relaxed boolean) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    UPDATE firstseen.records AS o
    SET state = 2, cause = 0, until = firstseen.clock(), ends = 9223372036854775807, attempts = 0, token = 0
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id
        AND o.state IN (3, 5) AND o.ends > firstseen.clock();
    RETURN FOUND;
END
$$;

CREATE FUNCTION firstseen.settle(
    p_namespace bytea, p_id bytea, p_result bytea, p_ttl bigint, p_lock_ms integer, p_relaxed boolean
) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    UPDATE firstseen.records AS o
    SET state = 4, result = p_result, is_failure = false,
        ends = CASE WHEN p_ttl IS NULL THEN 9223372036854775807 ELSE firstseen.clock() + p_ttl END
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id
        AND o.state = 3 AND o.ends > firstseen.clock();
    RETURN FOUND;
END
$$;

CREATE FUNCTION firstseen.forget_record(p_namespace bytea, p_id bytea, p_lock_ms integer, p_relaxed boolean)
RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM firstseen.enter(p_lock_ms, p_relaxed);
    DELETE FROM firstseen.records AS o
    WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace) AND o.id = p_id
        AND o.ends > firstseen.clock();
    RETURN FOUND;
END
$$;

-- Returns the ids of dead and held records in ascending order, after the given one; all if that is NULL.
CREATE FUNCTION firstseen.dead_letters(p_namespace bytea, p_after bytea, p_limit bigint) RETURNS bytea[]
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
BEGIN
    RETURN ARRAY(
        SELECT o.id FROM firstseen.records AS o
        WHERE o.namespace = (SELECT n.number FROM firstseen.namespaces AS n WHERE n.name = p_namespace)
            AND o.id > coalesce(p_after, ''::bytea) AND o.state IN (3, 5) AND o.ends > firstseen.clock()
        ORDER BY o.id
        LIMIT p_limit
    );
END
$$;

-- Returns about how many records a namespace has, and exactly how many of them are dead or held.
CREATE FUNCTION firstseen.records_about(p_namespace bytea) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_now CONSTANT bigint := firstseen.clock();
    v_namespace integer;
    v_looked_at bigint;
    v_live bigint;
    v_dead bigint;
    v_plan json;
BEGIN
    SELECT number INTO v_namespace FROM firstseen.namespaces WHERE name = p_namespace;
    SELECT count(*) INTO v_dead FROM firstseen.records AS o
    WHERE o.namespace = v_namespace AND o.state IN (3, 5) AND o.ends > v_now;
    SELECT count(*), count(*) FILTER (WHERE seen.ends > v_now) INTO v_looked_at, v_live
    FROM (SELECT o.ends FROM firstseen.records AS o WHERE o.namespace = v_namespace LIMIT 10001) AS seen;
    IF v_looked_at > 10000 THEN
        EXECUTE format(
            'EXPLAIN (FORMAT JSON) SELECT FROM firstseen.records WHERE namespace = %s AND ends > %s',
            v_namespace, v_now
        ) INTO v_plan;
        v_live := greatest(v_live, (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint);
    END IF;
    RETURN ARRAY[v_live, v_dead];
END
$$;

-- Deletes records that have ended, at most so many. Returns how many; NULL if another maintenance is under way.
CREATE FUNCTION firstseen.delete_ended_records(p_limit integer, p_lock_ms integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_count bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(firstseen.maintenance()) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lock_timeout', p_lock_ms::text, true);
    DELETE FROM firstseen.records WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM firstseen.records
        WHERE ends <= firstseen.clock() AND ends < 9223372036854775807
        ORDER BY ends LIMIT p_limit FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

INSERT INTO firstseen.versions (version) VALUES (2);
