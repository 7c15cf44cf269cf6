-- The shared legacy database mfe_poc2 (R9.1): times without zone, in UTC.
CREATE TABLE users (
    id             text PRIMARY KEY,
    email          text NOT NULL UNIQUE,
    password_hash  text NOT NULL,
    name           text NOT NULL,
    role           text NOT NULL,
    email_verified boolean NOT NULL DEFAULT false,
    created_at     timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    updated_at     timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE refresh_tokens (
    id         text PRIMARY KEY,
    user_id    text NOT NULL,
    token      text NOT NULL UNIQUE,
    expires_at timestamp(3) NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE payments (
    id                 text PRIMARY KEY,
    sender_id          text NOT NULL,
    recipient_id       text,
    amount             numeric(12,2) NOT NULL,
    currency           char(3) NOT NULL DEFAULT 'USD',
    status             text NOT NULL DEFAULT 'pending',
    type               text NOT NULL,
    description        text,
    psp_transaction_id text,
    psp_status         text,
    failure_reason     text,
    metadata           jsonb,
    completed_at       timestamp(3),
    created_at         timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    updated_at         timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE payment_transactions (
    id                 text PRIMARY KEY,
    payment_id         text NOT NULL,
    status             text NOT NULL,
    status_message     text,
    psp_transaction_id text,
    metadata           jsonb,
    created_at         timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE audit_logs (
    id            text PRIMARY KEY,
    user_id       text,
    action        text NOT NULL,
    resource_type text,
    resource_id   text,
    details       jsonb,
    ip_address    text,
    user_agent    text,
    created_at    timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE system_config (
    key         text PRIMARY KEY,
    value       jsonb NOT NULL,
    description text,
    updated_at  timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    updated_by  text
);
CREATE TABLE user_profiles (
    id          text PRIMARY KEY,
    user_id     text NOT NULL UNIQUE,
    avatar_url  text,
    phone       text,
    address     text,
    bio         text,
    preferences jsonb DEFAULT '{}',
    created_at  timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    updated_at  timestamp(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
