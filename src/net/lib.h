/*
 * libcurl and OpenSSL, loaded when the first connection may be made and not before: with them come some thirty
 * libraries, which would cost each of our processes six megabytes and half of the time that a start takes, also
 * where no secret store is on the network. So the program is not linked with them; the files of this room call them
 * by the names below, after net_lib_load().
 *
 * To be included after all other headers, by src/net/ alone.
 */
#ifndef CONNECTFS_NET_LIB_H
#define CONNECTFS_NET_LIB_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#undef curl_easy_getinfo
#undef curl_easy_setopt
#undef curl_multi_setopt

/* 0 or -ELIBACC (they aren't installed, or are too old). Once, before threads; may be called again. */
int net_lib_load(void);

#define NET_LIB_CURL(X) \
	X(curl_easy_cleanup) X(curl_easy_getinfo) X(curl_easy_init) X(curl_easy_reset) X(curl_easy_setopt) \
	X(curl_easy_strerror) X(curl_getdate) X(curl_global_init_mem) X(curl_multi_add_handle) X(curl_multi_assign) \
	X(curl_multi_cleanup) X(curl_multi_info_read) X(curl_multi_init) X(curl_multi_remove_handle) \
	X(curl_multi_setopt) X(curl_multi_socket_action) X(curl_slist_append) X(curl_slist_free_all)
#define NET_LIB_SSL(X) \
	X(OPENSSL_init_ssl) X(SSL_CTX_ctrl) X(SSL_CTX_free) X(SSL_CTX_new) X(SSL_CTX_set1_cert_store) \
	X(SSL_CTX_set_options) X(SSL_CTX_use_PrivateKey) X(SSL_CTX_use_certificate) X(SSL_CTX_use_cert_and_key) \
	X(SSL_free) X(SSL_new) X(TLS_client_method)
#define NET_LIB_CRYPTO(X) \
	X(BIO_free) X(BIO_new_mem_buf) X(CRYPTO_set_mem_functions) X(ERR_clear_error) X(ERR_peek_last_error) \
	X(ERR_reason_error_string) X(EVP_DigestFinal_ex) X(EVP_DigestInit_ex) X(EVP_DigestUpdate) X(EVP_MD_CTX_free) \
	X(EVP_MD_CTX_new) X(EVP_PKEY_free) X(EVP_sha256) X(OPENSSL_cleanse) X(OPENSSL_sk_new_null) X(OPENSSL_sk_num) \
	X(OPENSSL_sk_pop_free) X(OPENSSL_sk_push) X(OPENSSL_sk_value) X(PEM_read_bio_PrivateKey) \
	X(PEM_read_bio_X509) X(PEM_read_bio_X509_AUX) X(X509_STORE_add_cert) X(X509_STORE_free) X(X509_STORE_new) \
	X(X509_STORE_set_flags) X(X509_check_private_key) X(X509_free) X(X509_verify_cert_error_string)

#define NET_LIB_MEMBER(f) __typeof__(f) *f##_;
struct net_lib {
	NET_LIB_CURL(NET_LIB_MEMBER)
	NET_LIB_SSL(NET_LIB_MEMBER)
	NET_LIB_CRYPTO(NET_LIB_MEMBER)
};
extern struct net_lib net_lib;

#ifndef NET_LIB_ITSELF
#define curl_easy_cleanup net_lib.curl_easy_cleanup_
#define curl_easy_getinfo net_lib.curl_easy_getinfo_
#define curl_easy_init net_lib.curl_easy_init_
#define curl_easy_reset net_lib.curl_easy_reset_
#define curl_easy_setopt net_lib.curl_easy_setopt_
#define curl_easy_strerror net_lib.curl_easy_strerror_
#define curl_getdate net_lib.curl_getdate_
#define curl_global_init_mem net_lib.curl_global_init_mem_
#define curl_multi_add_handle net_lib.curl_multi_add_handle_
#define curl_multi_assign net_lib.curl_multi_assign_
#define curl_multi_cleanup net_lib.curl_multi_cleanup_
#define curl_multi_info_read net_lib.curl_multi_info_read_
#define curl_multi_init net_lib.curl_multi_init_
#define curl_multi_remove_handle net_lib.curl_multi_remove_handle_
#define curl_multi_setopt net_lib.curl_multi_setopt_
#define curl_multi_socket_action net_lib.curl_multi_socket_action_
#define curl_slist_append net_lib.curl_slist_append_
#define curl_slist_free_all net_lib.curl_slist_free_all_
#define OPENSSL_init_ssl net_lib.OPENSSL_init_ssl_
#define SSL_CTX_ctrl net_lib.SSL_CTX_ctrl_
#define SSL_CTX_free net_lib.SSL_CTX_free_
#define SSL_CTX_new net_lib.SSL_CTX_new_
#define SSL_CTX_set1_cert_store net_lib.SSL_CTX_set1_cert_store_
#define SSL_CTX_set_options net_lib.SSL_CTX_set_options_
#define SSL_CTX_use_PrivateKey net_lib.SSL_CTX_use_PrivateKey_
#define SSL_CTX_use_certificate net_lib.SSL_CTX_use_certificate_
#define SSL_CTX_use_cert_and_key net_lib.SSL_CTX_use_cert_and_key_
#define SSL_free net_lib.SSL_free_
#define SSL_new net_lib.SSL_new_
#define TLS_client_method net_lib.TLS_client_method_
#define BIO_free net_lib.BIO_free_
#define BIO_new_mem_buf net_lib.BIO_new_mem_buf_
#define CRYPTO_set_mem_functions net_lib.CRYPTO_set_mem_functions_
#define ERR_clear_error net_lib.ERR_clear_error_
#define ERR_peek_last_error net_lib.ERR_peek_last_error_
#define ERR_reason_error_string net_lib.ERR_reason_error_string_
#define EVP_DigestFinal_ex net_lib.EVP_DigestFinal_ex_
#define EVP_DigestInit_ex net_lib.EVP_DigestInit_ex_
#define EVP_DigestUpdate net_lib.EVP_DigestUpdate_
#define EVP_MD_CTX_free net_lib.EVP_MD_CTX_free_
#define EVP_MD_CTX_new net_lib.EVP_MD_CTX_new_
#define EVP_PKEY_free net_lib.EVP_PKEY_free_
#define EVP_sha256 net_lib.EVP_sha256_
#define OPENSSL_cleanse net_lib.OPENSSL_cleanse_
#define OPENSSL_sk_new_null net_lib.OPENSSL_sk_new_null_
#define OPENSSL_sk_num net_lib.OPENSSL_sk_num_
#define OPENSSL_sk_pop_free net_lib.OPENSSL_sk_pop_free_
#define OPENSSL_sk_push net_lib.OPENSSL_sk_push_
#define OPENSSL_sk_value net_lib.OPENSSL_sk_value_
#define PEM_read_bio_PrivateKey net_lib.PEM_read_bio_PrivateKey_
#define PEM_read_bio_X509 net_lib.PEM_read_bio_X509_
#define PEM_read_bio_X509_AUX net_lib.PEM_read_bio_X509_AUX_
#define X509_STORE_add_cert net_lib.X509_STORE_add_cert_
#define X509_STORE_free net_lib.X509_STORE_free_
#define X509_STORE_new net_lib.X509_STORE_new_
#define X509_STORE_set_flags net_lib.X509_STORE_set_flags_
#define X509_check_private_key net_lib.X509_check_private_key_
#define X509_free net_lib.X509_free_
#define X509_verify_cert_error_string net_lib.X509_verify_cert_error_string_
#endif

#endif
