CREATE TABLE gateway_login_codes (
        code_hash VARCHAR(64) NOT NULL,
        scope VARCHAR(1000) NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        used_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (code_hash)
);
CREATE TABLE gateway_tokens (
        jti VARCHAR(32) NOT NULL,
        kind VARCHAR(16) NOT NULL,
        subject VARCHAR(200) NOT NULL,
        project VARCHAR(80) NOT NULL,
        service VARCHAR(80) NOT NULL,
        description VARCHAR(200) NOT NULL,
        scope VARCHAR(1000) NOT NULL,
        issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        revoked_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (jti)
);
CREATE INDEX ix_gateway_tokens_expires_at ON gateway_tokens (expires_at);
